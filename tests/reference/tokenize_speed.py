#!/usr/bin/env python3
"""Speed of encoding beside the Hugging Face tokenizers library, on the same text and in turn, one thread each.

The texts: the files of this tree (code and prose), and made text in many scripts (corpus.py). Both sides encode it in
the same prompts of 8 KiB; token ids must be equal, which a hash shows. Rounds of the two alternate, so that other load
hits both; the figures are medians of processor time. Prints JSON, one line for each tokenizer and text.
Needs: pip install tokenizers==0.23.*. Usage: tokenize_speed.py MEGAKERNEL-BENCH TOKENIZER.json... [--rounds N]
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import corpus
from tokenizers import Tokenizer, __version__

PROMPT_BYTES = 8192
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def tree():
    names = subprocess.run(["git", "ls-files", "*.cc", "*.h", "*.cu*", "*.py", "*.md", "*.proto"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.split()
    files = []
    for name in sorted(names):
        with open(os.path.join(ROOT, name), "rb") as file:
            files.append(file.read().decode("utf-8", "replace").encode())
    return b"\n".join(files)


def scripts():
    texts = corpus.Corpus(os.path.join(ROOT, "tests/engine/text/goldens/corpus.json"), [b"x"], ["x"])
    return b"".join(texts.piece(10 * i + kind) for i in range(40) for kind in (1, 3, 4))


def prompts(text):
    """As megakernel-bench tokenize cuts them."""
    parts = []
    while text:
        size = min(PROMPT_BYTES, len(text))
        while 1 < size < len(text) and text[size] & 0xC0 == 0x80:
            size -= 1
        parts.append(text[:size].decode())
        text = text[size:]
    return parts


def own_round(program, tokenizer, path):
    done = subprocess.run([program, "tokenize", "--model", tokenizer, "--text", path, "--prompt", str(PROMPT_BYTES),
                           "--rounds", "1"], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def peer_round(tokenizer, parts):
    """Megabytes a second of processor time, and the ids."""
    start = time.process_time()
    encodings = [tokenizer.encode_batch_fast([part], add_special_tokens=False)[0] for part in parts]
    seconds = time.process_time() - start
    return sum(len(part.encode()) for part in parts) / 1e6 / seconds, encodings


def compare(program, path, text, rounds):
    tokenizer = Tokenizer.from_file(path)
    tokenizer.encode_special_tokens = True
    parts = prompts(text)
    _, encodings = peer_round(tokenizer, parts)  # warms up
    expected = f"{corpus.fnv(token for encoding in encodings for token in encoding.ids):016x}"
    own, peer = [], []
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        for _ in range(rounds):
            result = own_round(program, path, file.name)
            if result["hash"] != expected:
                raise AssertionError(f"{path}: the token ids differ")
            own.append(result["mb_cpu_s_median"])
            peer.append(peer_round(tokenizer, parts)[0])
    return {"tokens": result["tokens"], "bytes": len(text), "ids_equal": True, "rounds": rounds,
            "mb_s": round(statistics.median(own), 2), "tokenizers_mb_s": round(statistics.median(peer), 2),
            "ratio": round(statistics.median(own) / statistics.median(peer), 2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("tokenizers", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    texts = {"tree": tree(), "scripts": scripts()}
    for path in arguments.tokenizers:
        for name, text in texts.items():
            row = {"tokenizer": os.path.basename(path), "text": name, "library": f"tokenizers {__version__}",
                   "load_1min": round(os.getloadavg()[0], 1)}
            print(json.dumps(row | compare(arguments.program, path, text, arguments.rounds)), flush=True)


if __name__ == "__main__":
    main()
