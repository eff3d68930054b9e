#!/usr/bin/env python3
"""Token streams by the Hugging Face tokenizers library over a made corpus, as hashes, for tests/engine/text.

Makes goldens/tokenizers/NAME.json for: qwen3 (its tokenizer.json), smollm2 (from the GGUF file), and two tokenizers that are
made here and stand beside as made_*.tokenizer.json: Llama-3-style rules and NFC rules, with added tokens of every flag.
Needs: pip install tokenizers==0.23.* gguf numpy.
Usage: tokenizer_goldens.py MODEL.gguf QWEN3_TOKENIZER.json tests/engine/text/goldens [NAME...]
"""
import json
import sys

import corpus
import smollm2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from text_goldens import GPT4

PIECES = 410  # of corpus.PIECE_BYTES: more than 5 MB
TRAINING_PIECES = 60
# None is written with letters of the byte-level alphabet beyond ASCII: the library's decoder takes those for bytes even in
# added tokens, which here stand for their own text.
BOS = "<|begin_of_text|>"
ADDED = [
    AddedToken(BOS, special=True, normalized=False),
    AddedToken("<|eot_id|>", special=True, normalized=False),
    AddedToken("<|eot_id|><|eot_id|>", special=False, normalized=False),
    AddedToken("<both>", special=False, lstrip=True, rstrip=True, normalized=False),
    AddedToken("<left>", special=True, lstrip=True, normalized=False),
    AddedToken("<right>", special=False, rstrip=True, normalized=False),
    AddedToken("the", special=False, single_word=True, normalized=False),
    AddedToken("й", special=False, single_word=True, normalized=True),
    AddedToken("о\u0308a", special=False, normalized=True),
    AddedToken("ǻ", special=True, lstrip=True, normalized=True),
    AddedToken("  ", special=False, normalized=False),
    AddedToken("ab", special=False, normalized=True),
    AddedToken("→", special=False, single_word=True, rstrip=True, normalized=True),
]


def alphabet():
    """Character of the byte-level alphabet -> byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def bytes_of_tokens(tokenizer):
    table = alphabet()

    def token_bytes(token):
        if token is None:
            return b""
        return bytes(table[c] for c in token) if all(c in table for c in token) else token.encode()

    size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    # The library decodes a token that is looked for in normalized text as its normalized form.
    added = {i: tokenizer.normalizer.normalize_str(t.content) if t.normalized and tokenizer.normalizer else t.content
             for i, t in tokenizer.get_added_tokens_decoder().items()}
    return [added[i].encode() if i in added else token_bytes(tokenizer.id_to_token(i)) for i in range(size)]


def make_tokenizer(name, material):
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "made_llama3"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name == "made_nfc")
    if name == "made_llama3":
        split = pre_tokenizers.Split(Regex(GPT4.replace("DIGITS", "{1,3}")), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    else:
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    texts = corpus.Corpus(material, [b"x"], ["x"])
    training = [texts.piece(10 * i + kind).decode() for i in range(TRAINING_PIECES // 3) for kind in (1, 2, 3)]
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(training, trainer)
    tokenizer.add_tokens([t for t in ADDED if not t.special])
    tokenizer.add_special_tokens([t for t in ADDED if t.special])
    if name == "made_llama3":
        bos = tokenizer.token_to_id(BOS)
        template = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def goldens(tokenizer, plain, material):
    """`plain`: the same tokenizer, which takes special tokens for text."""
    plain.encode_special_tokens = True
    added = [t.content for _, t in sorted(tokenizer.get_added_tokens_decoder().items())]
    texts = corpus.Corpus(material, bytes_of_tokens(tokenizer), added)
    result = {"tokens": len(texts.token_bytes), "added": added, "pieces": []}
    totals = [0, 0]
    for number in range(PIECES):
        piece = texts.piece(number)
        text = piece.decode()
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        other = plain.encode(text, add_special_tokens=False).ids
        decoded = tokenizer.decode(ids, skip_special_tokens=True).encode()
        result["pieces"].append([len(piece), len(ids), f"{corpus.fnv(ids):016x}", f"{corpus.fnv(other):016x}",
                                 f"{corpus.fnv(decoded):016x}"])
        totals = [totals[0] + len(piece), totals[1] + len(ids)]
    return result, totals


def main(model_path, qwen3_path, folder, *names):
    material = f"{folder}/corpus.json"
    reader = smollm2.open_gguf(model_path)
    made = {name: make_tokenizer(name, material) for name in ("made_llama3", "made_nfc")}
    for name, tokenizer in made.items():
        tokenizer.save(f"{folder}/tokenizers/{name}.tokenizer.json", pretty=False)
    sources = {
        "qwen3": lambda: Tokenizer.from_file(qwen3_path),
        "smollm2": lambda: smollm2.load_tokenizer(reader),
        **{name: lambda name=name: Tokenizer.from_file(f"{folder}/tokenizers/{name}.tokenizer.json") for name in made},
    }
    for name in names or sources:
        make = sources[name]
        result, (size, count) = goldens(make(), make(), material)
        with open(f"{folder}/tokenizers/{name}.json", "w", encoding="utf-8") as file:
            json.dump(result, file, ensure_ascii=False, separators=(",", ":"))
        print(f"{name}: {PIECES} pieces, {size} bytes, {count} tokens")


if __name__ == "__main__":
    main(*sys.argv[1:])
