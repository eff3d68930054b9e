"""The test model's GGUF file as the Hugging Face libraries see it: tokenizer, chat template, float32 model.

Needs: pip install gguf tokenizers jinja2 transformers torch (for the model).
"""
import gguf
import numpy as np

CONTROL = 3  # tokenizer.ggml.token_type of special tokens


def open_gguf(path):
    return gguf.GGUFReader(path)


def text(reader, key):
    field = reader.fields[key]
    return bytes(field.parts[field.data[0]]).decode()


def number(reader, key):
    field = reader.fields[key]
    return field.parts[field.data[0]][0].item()


def texts(reader, key):
    field = reader.fields[key]
    return [bytes(field.parts[i]).decode() for i in field.data]


def build_tokenizer(tokens, types, merges, pre_tokenizer):
    """A tokenizers.Tokenizer from a byte-level vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models

    model = models.BPE(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[tuple(merge.split(" ")) for merge in merges],
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t, kind in zip(tokens, types) if kind == CONTROL]
    )
    return tokenizer


def smollm_pre_tokenizer():
    from tokenizers import pre_tokenizers

    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )


def load_tokenizer(reader):
    types = reader.fields["tokenizer.ggml.token_type"]
    return build_tokenizer(
        texts(reader, "tokenizer.ggml.tokens"),
        [int(types.parts[i][0]) for i in types.data],
        texts(reader, "tokenizer.ggml.merges"),
        smollm_pre_tokenizer(),
    )


def load_template(reader):
    """The chat template, compiled with the settings of transformers' apply_chat_template."""
    return compile_template(text(reader, "tokenizer.chat_template"))


def compile_template(source):
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message):
        raise ValueError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    import json

    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(source)


def rope_on_halves(rows, num_heads):
    """llama files hold the rows of Q and K for RoPE on neighbours; transformers rotates halves."""
    head_dim = rows.shape[0] // num_heads
    return rows.reshape(num_heads, head_dim // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def load_model(reader):
    """transformers' LlamaForCausalLM in float32 on the dequantised weights."""
    import torch
    from gguf.quants import dequantize
    from transformers import LlamaConfig, LlamaForCausalLM

    def key(name):
        return number(reader, "llama." + name)

    q_heads, kv_heads = key("attention.head_count"), key("attention.head_count_kv")
    config = LlamaConfig(
        vocab_size=key("vocab_size"),
        hidden_size=key("embedding_length"),
        intermediate_size=key("feed_forward_length"),
        num_hidden_layers=key("block_count"),
        num_attention_heads=q_heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=key("context_length"),
        rms_norm_eps=key("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": key("rope.freq_base")},
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    state = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        values = values.reshape([int(n) for n in reversed(tensor.shape)])
        parts = tensor.name.split(".")
        if parts[0] == "blk":
            if parts[2] in ("attn_q", "attn_k"):
                values = rope_on_halves(values, q_heads if parts[2] == "attn_q" else kv_heads)
            name = f"model.layers.{parts[1]}.{NAMES[parts[2]]}.{parts[3]}"
        else:
            name = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[
                tensor.name
            ]
        state[name] = torch.from_numpy(np.ascontiguousarray(values))
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = LlamaForCausalLM(config).to(torch.float32)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    return model.eval()
