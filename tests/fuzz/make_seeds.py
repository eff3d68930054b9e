#!/usr/bin/env python3
"""Writes the first corpora of the fuzz targets: small good files of each kind, and their usual mistakes.

Standard library only. Usage: make_seeds.py tests/fuzz/corpora
"""
import json
import os
import struct
import sys


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(architecture="llama", extra=(), kind=0, block=(1, 4), hidden=8, pre="gpt-2", version=3):
    """A model of one layer; matrices of tensor type `kind` with blocks of (elements, bytes)."""
    def number(key, value):
        return text(key) + struct.pack("<II", 4, value)

    def real(key, value):
        return text(key) + struct.pack("<If", 6, value)

    def string(key, value):
        return text(key) + struct.pack("<I", 8) + text(value)

    def strings(key, values):
        return text(key) + struct.pack("<IIQ", 9, 8, len(values)) + b"".join(text(v) for v in values)

    a = architecture
    keys = [string("general.architecture", a), number(f"{a}.block_count", 1), number(f"{a}.context_length", 16),
            number(f"{a}.embedding_length", hidden), number(f"{a}.feed_forward_length", hidden),
            number(f"{a}.attention.head_count", 2), number(f"{a}.attention.head_count_kv", 1),
            real(f"{a}.attention.layer_norm_rms_epsilon", 1e-5), real(f"{a}.rope.freq_base", 10000.0),
            string("tokenizer.ggml.model", "gpt2"), string("tokenizer.ggml.pre", pre),
            strings("tokenizer.ggml.tokens", ["a", "b", "ab", "<s>", "</s>"]),
            text("tokenizer.ggml.token_type") + struct.pack("<IIQ5i", 9, 5, 5, 1, 1, 1, 3, 3),
            strings("tokenizer.ggml.merges", ["a b"]), number("tokenizer.ggml.eos_token_id", 4), *extra]
    head = hidden // 2
    shapes = [("token_embd.weight", (hidden, 5)), ("output_norm.weight", (hidden,)), ("blk.0.attn_norm.weight", (hidden,)),
              ("blk.0.attn_q.weight", (hidden, hidden)), ("blk.0.attn_k.weight", (hidden, head)),
              ("blk.0.attn_v.weight", (hidden, head)), ("blk.0.attn_output.weight", (hidden, hidden)),
              ("blk.0.ffn_norm.weight", (hidden,)), ("blk.0.ffn_gate.weight", (hidden, hidden)),
              ("blk.0.ffn_up.weight", (hidden, hidden)), ("blk.0.ffn_down.weight", (hidden, hidden))]
    if a == "qwen3":
        shapes += [("blk.0.attn_q_norm.weight", (head,)), ("blk.0.attn_k_norm.weight", (head,))]
    if a == "qwen2":
        shapes += [("blk.0.attn_q.bias", (hidden,)), ("blk.0.attn_k.bias", (head,)), ("blk.0.attn_v.bias", (head,))]
    entries, data = b"", b""
    for name, shape in shapes:
        plain = len(shape) == 1
        elements = shape[0] * (1 if plain else shape[1])
        size = elements * 4 if plain else elements // block[0] * block[1]
        entries += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        entries += struct.pack("<IQ", 0 if plain else kind, len(data))
        data += bytes(size) + bytes(-size % 32)
    head = b"GGUF" + struct.pack("<IQQ", version, len(shapes), len(keys)) + b"".join(keys) + entries
    return head + bytes(-len(head) % 32) + data


def safetensors(header, size):
    raw = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(raw)) + raw.encode() + bytes(size)


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def tokenizer(**changes):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    vocab = {chr(c): c - 33 for c in range(33, 127)} | {"ab": 94, "Ġ": 95, "Ġa": 96}
    file = {"version": "1.0", "added_tokens": [{"id": 97, "content": "<s>", **flags},
                                               {"id": 98, "content": "é", **flags, "normalized": True, "special": False},
                                               {"id": 99, "content": "xx", **flags, "lstrip": True, "rstrip": True,
                                                "single_word": True}],
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
            "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                                                        {"Sequence": {"id": "A", "type_id": 0}}],
                               "special_tokens": {"<s>": {"id": "<s>", "ids": [97], "tokens": ["<s>"]}}},
            "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": vocab, "merges": [["a", "b"], "Ġ a"], "ignore_merges": True}}
    return (json.dumps(file | changes, ensure_ascii=False) + "ab xx <s> e\u0301 12  \n").encode()


PIECES = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + ["\u2581", "a", "b", "ab", "\u2581a", "a\u2581", "é"]


def piece_tokenizer(**changes):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    file = {"added_tokens": [{"id": i, "content": PIECES[i], **flags} for i in range(3)],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
                {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
                      "vocab": {piece: i for i, piece in enumerate(PIECES)}, "merges": ["a b", "\u2581 a", "a \u2581"]}}
    return (json.dumps(file | changes, ensure_ascii=False) + "ab  a <s> \u00e9\u00ea\n b").encode()


def gguf_pieces(scores):
    """A container with nothing but pieces and their scores."""
    def array(key, kind, values, form):
        return text(key) + struct.pack(f"<IIQ{len(values)}{form}", 9, kind, len(values), *values)

    types = [2, 3, 3] + [6] * 256 + [1] * (len(PIECES) - 259)
    keys = [text("tokenizer.ggml.model") + struct.pack("<I", 8) + text("llama"),
            text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, len(PIECES)) +
            b"".join(struct.pack("<Q", len(piece.encode())) + piece.encode() for piece in PIECES),
            array("tokenizer.ggml.token_type", 5, types, "i"), array("tokenizer.ggml.scores", 6, scores, "f")]
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys)
    return head + bytes(-len(head) % 32)


GPT4 = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
        "\\s+(?!\\S)|\\s+")
SPLIT = {"type": "Sequence", "pretokenizers": [
    {"type": "Split", "pattern": {"Regex": GPT4}, "behavior": "Isolated", "invert": False},
    {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]}
CONFIG = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 64, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "intermediate_size": 128, "vocab_size": 100,
          "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "eos_token_id": [1, 2], "bos_token_id": 0,
          "tie_word_embeddings": True, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                                        "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}
TEMPLATES = [
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n'}}{% endfor %}",
    "{%- macro f(a, b='x') -%}{{ a | tojson(indent=2) }}{{ b }}{%- endmacro -%}{{ f(tools, b=n) }}{{ f(messages[-1]) }}",
    "{% set ns = namespace(x=1) %}{% for m in messages[::-1] if m.role != 'tool' %}{% set ns.x = ns.x * 2 + loop.index0 %}"
    "{% if loop.last %}{% break %}{% endif %}{% else %}none{% endfor %}{{ ns.x }}",
    "{{ messages | map(attribute='role') | reject('equalto', 'tool') | join(', ') | upper }}{{ 'a b'.split(' ')[1:] | length }}"
    "{{ 7 // 2 ~ -7 % 3 }}{{ {'a': [1, none]} | tojson }}{{ strftime_now('%Y') | length }}{{ bos_token is defined }}",
    "{%- if tools %}{%- for t in tools %}{{ t.function.name | default('?') }}{%- endfor %}{%- elif n is odd %}x{% else %}"
    "{{ raise_exception('no') }}{%- endif %}{# comment #}{% generation %}{{ messages[2].content.split('</think>')[-1] }}"
    "{% endgeneration %}",
]


def field(number, value):
    """One field of a protobuf message."""
    def varint(n):
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def requests():
    """GenerateRequests: the fields' numbers are those of proto/megakernel/v1."""
    sampling = b"".join(field(n, x) for n, x in ((1, 0.7), (2, 40), (3, 0.9), (4, 0.1), (5, 1.1), (6, 0.5), (7, -0.5), (10, 7)))
    lists = field(8, field(1, 300) + field(2, 5.0)) + field(9, bytes([3, 4, 5]))
    stopping = field(1, 20) + field(2, 2) + field(3, "end") + field(4, b"\x03") + field(5, 1) + field(6, 1)
    output = field(1, 0) + field(3, 2) + field(4, 1) + field(5, 0)
    chat = field(1, field(1, "user") + field(2, "hello")) + field(2, 1)
    return [field(1, "id") + field(2, "once") + field(5, sampling) + field(6, stopping) + field(7, output),
            field(3, chat) + field(5, lists) + field(10, 4), field(4, field(1, bytes([3, 4, 5]))) + field(8, "ab") + field(9, 3),
            field(2, "x") + field(5, field(1, float("nan"))), field(2, "x") + field(6, field(1, (1 << 64) - 1)),
            field(4, field(1, b"\x80\x08")), field(1, "a\n"), b""]


def session(tenant="default", page_tokens=4, num_tokens=9, kv_length=8):
    names = b"m" + b"f 4" + tenant.encode()
    pages = (kv_length + page_tokens - 1) // page_tokens if page_tokens else 0
    head = b"MKSESSN\0" + struct.pack("<6IQ2I", 1, 1, 3, len(tenant), page_tokens, num_tokens, 32, kv_length, 0)
    return head + names + bytes(4 * 9) + bytes(range(32)) * pages


SERVER_CONFIGS = [{"model": {"path": "m.gguf"}, "executor": {"device": "cpu", "threads": "auto", "kv_memory": "512MiB"}},
                  {"limits": {"max_context": 4096, "max_sequences": 8, "max_queue": 16, "session_ttl": "10m"}},
                  {"executor": {"page_tokens": 257}}, {"limits": []}, {"nothing": {}}, []]


def seeds():
    blocks = {1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 12: (256, 144), 13: (256, 176),
              14: (256, 210), 20: (32, 18), 30: (1, 2)}
    yield "gguf", [gguf(), gguf("qwen3", pre="qwen2"), gguf("qwen2", version=2), gguf()[:100], gguf()[:-50], b"GGUF",
                   gguf_pieces([-i / 3 for i in range(len(PIECES))]), gguf_pieces([float("nan")] * len(PIECES)),
                   *[gguf(kind=k, block=b, hidden=max(8, b[0])) for k, b in blocks.items() if b[0] < 256]]
    one = {"a": tensor("F32", [2, 2], 0, 16), "b": tensor("BF16", [4], 16, 24), "__metadata__": {"format": "pt"}}
    yield "safetensors", [safetensors(one, 24), safetensors(one, 23), safetensors({}, 0), safetensors("{", 0), b"",
                          safetensors({"a": tensor("F16", [1 << 40], 0, 8)}, 8),
                          safetensors('{"a":{},"a":{}}', 0), struct.pack("<Q", 1 << 60)]
    yield "tokenizer", [tokenizer(), tokenizer(pre_tokenizer=SPLIT, normalizer=None), tokenizer(post_processor=None),
                        b"{}", b"[" * 40, tokenizer()[:200], piece_tokenizer(),
                        piece_tokenizer(normalizer=None)]
    index = {"metadata": {"total_size": 1}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    generation = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "eos_token_id": [1, 2]}
    yield "config", [json.dumps(x).encode() for x in
                     (CONFIG, CONFIG | {"model_type": "llama", "architectures": None}, CONFIG | {"rope_scaling": None}, index,
                      generation, [1, 2.5e300, -7, "\ud83d\ude00", None, True, {"a": {"b": [[]]}}])] + [b"", b"{" * 50]
    yield "template", [t.encode() for t in TEMPLATES]
    yield "text", [b"\x02\x03\x03end\x02the end of it", b"\x05\x04\xc3\xa9\xc3\xa9\x01\xc3\xa9\x00\xc3\xa9\xc3\xc3\xa9\xc3\xa9",
                   b"\x04\x04aaab\x02ab\x01aaaaaab", b"\x03\x03\xef\xbf\xbd\x02ab\xff\xe2\x82", b"\x00\x08\xf0\x9f\x98\x80\xed\xa0\x80"]
    yield "request", [b"\x01" + r for r in requests()] + [b"\x00" + r for r in requests()[:3]] + [
        b"\x03" + field(1, field(1, 60) + field(2, 5)), b"\x03" + field(1, field(1, 1 << 63))]
    yield "decode", [b"\x00\x02\x02\x05abcde\x03\x01\x08\x05\x03", b"\x00\x01\x02\x03\x0a\x0b\x0c\x03\x03\x20\x02 a\x06\x05\x02",
                     b"\x02\x01\x00\x04text\x00\x00\x03\x00", b"\x0d\x01\x02\x10" + bytes(range(3, 19)) + b"\x03\x01\x40\x06",
                     b"\x00\x01\x01\x05hello\x03\x45\x10\x07\x05\x63\x01\x01\x02hi\x03\x01\x05",
                     b"\x00\x01\x12\x02\x05\x06\x07\x09\x03abc\x07\x04" + field(2, field(1, 3))]
    yield "session_file", [b"\x01" + session(), b"\x01" + session(kv_length=7), b"\x01" + session(tenant="other"), b"\x00" + session(),
                           b"\x01" + session(num_tokens=1 << 31), b"\x01" + session(page_tokens=0), b"\x00MKSESSN", b""]
    yield "server_config", [json.dumps(x).encode() for x in SERVER_CONFIGS] + [
        b"--model=x\n--device=fake\n--max-queue=3\n", b"--listen\n[::1]:7\n--no-reflection\n--kv-memory=4GiB\n",
        b"--help\n", b'{"limits": {"max_queue": 1, "max_queue": 2}}', b"{} x"]


for name, files in seeds():
    folder = os.path.join(sys.argv[1], name)
    os.makedirs(folder, exist_ok=True)
    for number, data in enumerate(files):
        with open(os.path.join(folder, f"seed_{number:02d}"), "wb") as file:
            file.write(data)
