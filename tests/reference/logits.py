"""Logits of transformers, dumps of logits, and their comparison. Used by the scripts beside it.

A dump is PREFIX.json and PREFIX.f32. PREFIX.json: {"source": text, "vocab": n, "sequences": [{"tokens": [...],
"positions": [...]}, ...]}. PREFIX.f32: for every sequence and position in that order one row of `vocab` float32,
little-endian: the logits after the token at that position.
"""
import json

import numpy as np

from make_checkpoint import philox_words


def random_tokens(seed: int, count: int, vocab: int) -> list:
    """Token i is Draw(seed, i, vocab) of kernels/layout/sampling.h."""
    words = philox_words(seed, 0, 0, count).reshape(-1, 4).astype(object)
    return [int(((int(w[1]) << 32 | int(w[0])) * vocab) >> 64) for w in words]


def write_dump(prefix: str, source: str, sequences: list, rows: np.ndarray) -> None:
    assert rows.shape[0] == sum(len(s["positions"]) for s in sequences)
    with open(prefix + ".json", "w") as file:
        json.dump({"source": source, "vocab": int(rows.shape[1]), "sequences": sequences}, file)
        file.write("\n")
    rows.astype("<f4").tofile(prefix + ".f32")


def read_dump(prefix: str):
    with open(prefix + ".json") as file:
        meta = json.load(file)
    count = sum(len(s["positions"]) for s in meta["sequences"])
    rows = np.fromfile(prefix + ".f32", dtype="<f4")
    if rows.size != count * meta["vocab"]:
        raise SystemExit(f"{prefix}.f32 holds {rows.size} values; {prefix}.json implies {count} x {meta['vocab']}")
    return meta, rows.reshape(count, meta["vocab"])


class TransformersModel:
    """A checkpoint in transformers, float32 or bfloat16, every product at full precision.

    `extra` goes to from_pretrained: gguf_file names a GGUF file in the folder `checkpoint`.
    """

    def __init__(self, checkpoint: str, dtype: str, device: str, **extra):
        import torch
        from transformers import AutoModelForCausalLM

        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("highest")
        # bfloat16 sums must not be cut short by split-K reductions in bfloat16.
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
        self.torch = torch
        self.device = device
        types = {"fp32": torch.float32, "bf16": torch.bfloat16}
        self.model = AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype=types[dtype], local_files_only=True, attn_implementation="eager",
            **extra).to(device).eval()

    def logits(self, sequences: list, chunk: int = 512) -> np.ndarray:
        """float32 rows of all sequences and positions; the prompt runs in chunks so that long contexts fit."""
        torch = self.torch
        result = []
        for sequence in sequences:
            tokens = torch.tensor([sequence["tokens"]], device=self.device)
            wanted = torch.tensor(sorted(set(sequence["positions"])))
            found, cache = {}, None
            for first in range(0, max(sequence["positions"]) + 1, chunk):
                part = tokens[:, first:first + chunk]
                keep = wanted[(wanted >= first) & (wanted < first + part.shape[1])] - first
                index = (keep if len(keep) else torch.tensor([0])).to(self.device)
                with torch.no_grad():
                    out = self.model(input_ids=part, past_key_values=cache, use_cache=True, logits_to_keep=index)
                cache = out.past_key_values
                for k, row in zip(keep.tolist(), out.logits[0].float().cpu().numpy()):
                    found[first + k] = row
            result.extend(found[p] for p in sequence["positions"])
        return np.stack(result)

    def greedy(self, prompt: list, count: int):
        """The prompt with `count` tokens after it, and the float32 rows that chose them."""
        tokens, feed, cache, rows = list(prompt), list(prompt), None, []
        for _ in range(count):
            with self.torch.no_grad():
                out = self.model(input_ids=self.torch.tensor([feed], device=self.device), past_key_values=cache,
                                 use_cache=True)
            cache = out.past_key_values
            rows.append(out.logits[0, -1].float().cpu().numpy())
            feed = [int(rows[-1].argmax())]
            tokens += feed
        return tokens, np.stack(rows)


def compare(reference: np.ndarray, rows: np.ndarray) -> dict:
    """Errors of `rows` against `reference`, position by position.

    relative_error = ||l - ref||2 / ||ref||2. A differing argmax is allowed where the reference's gap between the two
    tokens is at most twice the largest absolute error of the run.
    """
    ref, got = reference.astype(np.float64), rows.astype(np.float64)
    difference = np.abs(got - ref)
    relative = np.linalg.norm(got - ref, axis=1) / np.linalg.norm(ref, axis=1)
    largest = float(difference.max())
    best_ref, best_got = ref.argmax(axis=1), got.argmax(axis=1)
    index = np.arange(len(ref))
    gaps = ref[index, best_ref] - ref[index, best_got]
    differs = best_ref != best_got
    return {
        "positions": len(ref),
        "relative_error_max": float(relative.max()),
        "relative_error_mean": float(relative.mean()),
        "worst_row": int(relative.argmax()),
        "absolute_error_max": largest,
        "argmax_differs": int(differs.sum()),
        "argmax_differs_beyond_margin": int((differs & (gaps > 2 * largest)).sum()),
        "finite": bool(np.isfinite(got).all()),
        "relative_error": [float(x) for x in relative],
    }
