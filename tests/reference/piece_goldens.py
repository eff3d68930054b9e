#!/usr/bin/env python3
"""Piece tokenizers (characters, spaces as U+2581, bytes for the rest) made for tests; their token streams as hashes.

  piece_goldens.py make tests/engine/text/goldens [NAME...]
      trains made_pieces and made_spans, writes their tokenizer.json and
      goldens by the Hugging Face tokenizers library, and made_scores.gguf, whose merges follow scores with ties.
      Needs: pip install tokenizers==0.23.* gguf numpy.
  piece_goldens.py scores tests/engine/text/goldens  goldens of made_scores.gguf by llama.cpp.
      Needs: pip install llama-cpp-python.

made_pieces is laid out as Llama 2's: <unk>, <s>, </s>, 256 bytes, pieces; a space goes before every text. made_spans
has pieces that reach over spaces, no space in front, and added tokens of every kind that its normalizer bears on.
"""
import json
import sys

import corpus

PIECES = 410  # of corpus.PIECE_BYTES: more than 5 MB
TRAINING_PIECES = 90
SPACE = "\u2581"
FIRST = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def training_texts(material):
    texts = corpus.Corpus(material, [b"x"], ["x"])
    return [texts.piece(10 * i + kind).decode() for i in range(TRAINING_PIECES // 3) for kind in (1, 2, 3)]


def train(material, across_spaces):
    """Pieces and merges: those of a byte-pair trainer."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    if across_spaces:
        lines = pre_tokenizers.Split(Regex(r"\n"), behavior="isolated")
        spaces = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([lines, spaces])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    trainer = trainers.BpeTrainer(vocab_size=700, limit_alphabet=120, show_progress=False)
    tokenizer.train_from_iterator(training_texts(material)[: 9 if across_spaces else None], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), model["merges"]


def tokenizer_json(material, name):
    spans = name == "made_spans"
    pieces, merges = train(material, across_spaces=spans)
    vocabulary = FIRST + pieces
    off = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    added = [{"id": i, "content": FIRST[i]} | off | {"special": True} for i in range(3)]
    further = {"[INST]": {}, "<both>": {"lstrip": True, "rstrip": True}, "a b": {"normalized": True},
               "the": {"single_word": True}, "é": {"normalized": True}, "<left>": {"lstrip": True, "special": True}}
    for content, flags in further.items() if spans else ():
        if content not in vocabulary:
            vocabulary.append(content)
        added.append({"id": vocabulary.index(content), "content": content} | off | flags)
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    prepend = {"type": "Prepend", "prepend": SPACE}
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    decoders = [back, {"type": "ByteFallback"}, {"type": "Fuse"}]
    if not spans:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": replace if spans else {"type": "Sequence", "normalizers": [prepend, replace]},
        "pre_tokenizer": None,
        "post_processor": {"type": "TemplateProcessing", "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
                           "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                           "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(FIRST + pieces)}, "merges": merges}}


def bytes_of(tokens):
    return [bytes([i - 3]) if 3 <= i < 259 else token.replace(SPACE, " ").encode() for i, token in enumerate(tokens)]


def write_goldens(folder, name, tokens, added, encode, decode):
    """`encode(text, special)`: ids with or without special tokens found in the text."""
    texts = corpus.Corpus(f"{folder}/corpus.json", bytes_of(tokens), added)
    result, size, count = {"tokens": len(tokens), "added": added, "pieces": []}, 0, 0
    for number in range(PIECES):
        piece = texts.piece(number)
        ids, plain = encode(piece, True), encode(piece, False)
        result["pieces"].append([len(piece), len(ids), f"{corpus.fnv(ids):016x}", f"{corpus.fnv(plain):016x}",
                                 f"{corpus.fnv(decode(ids)):016x}"])
        size, count = size + len(piece), count + len(ids)
    with open(f"{folder}/tokenizers/{name}.json", "w", encoding="utf-8") as file:
        json.dump(result, file, ensure_ascii=False, separators=(",", ":"))
    print(f"{name}: {PIECES} pieces, {size} bytes, {count} tokens")


def write_gguf(path, pieces):
    """Scores fall by one every third piece, so equal ones meet; some characters are parts of pieces only."""
    import gguf

    letters = [piece for piece in pieces if len(piece) == 1]
    dropped = {letter for i, letter in enumerate(letters) if i % 5 == 0 and letter != SPACE}
    kept = [piece for piece in pieces if piece not in dropped]
    tokens = FIRST + kept + ["<|eot|>", "[TOOL]", "never"]
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(kept) + [CONTROL, USER_DEFINED, UNUSED]
    scores = [0.0] * 259 + [-float(i // 3) for i in range(len(kept))] + [0.0, 0.0, 0.0]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_scores(scores)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def make(folder, *names):
    from tokenizers import Tokenizer

    for name in names or ("made_pieces", "made_spans"):
        contents = tokenizer_json(f"{folder}/corpus.json", name)
        path = f"{folder}/tokenizers/{name}.tokenizer.json"
        with open(path, "w", encoding="utf-8") as file:
            json.dump(contents, file, ensure_ascii=False, separators=(",", ":"))
        special, plain = Tokenizer.from_file(path), Tokenizer.from_file(path)
        plain.encode_special_tokens = True
        vocabulary = contents["model"]["vocab"]
        tokens = sorted(vocabulary, key=vocabulary.get) + [
            t["content"] for t in contents["added_tokens"] if t["id"] >= len(vocabulary)]
        if name == "made_pieces":
            write_gguf(f"{folder}/tokenizers/made_scores.gguf", tokens[len(FIRST):])

        def encode(text, parse):
            return (special if parse else plain).encode(text.decode(), add_special_tokens=False).ids

        write_goldens(folder, name, tokens, [t["content"] for t in contents["added_tokens"]], encode,
                      lambda ids: special.decode(ids, skip_special_tokens=True).encode())


def scores(folder):
    import llama_cpp

    model = llama_cpp.Llama(f"{folder}/tokenizers/made_scores.gguf", vocab_only=True, verbose=False)
    vocabulary = model._model.vocab
    tokens = [llama_cpp.llama_vocab_get_text(vocabulary, i).decode() for i in range(model.n_vocab())]

    def piece(token):
        buffer = (llama_cpp.ctypes.c_char * 256)()
        return bytes(buffer[:llama_cpp.llama_token_to_piece(vocabulary, token, buffer, len(buffer), 0, False)])

    # llama.cpp's own llama_detokenize keeps the space that it put there when the text began with a special token.
    def decode(ids):
        text = b"".join(piece(token) for token in ids)
        return text[1:] if text.startswith(b" ") else text

    write_goldens(folder, "made_scores", tokens, ["<s>", "</s>", "<|eot|>", "[TOOL]"],
                  lambda text, parse: model.tokenize(text, add_bos=False, special=parse), decode)


if __name__ == "__main__":
    {"make": make, "scores": scores}[sys.argv[1]](*sys.argv[2:])
