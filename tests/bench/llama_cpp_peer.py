#!/usr/bin/env python3
"""Measures llama.cpp on the cases of `megakernel-bench cpu` and merges both into one JSON, with the ratios.

    python3 -m venv peer && CMAKE_ARGS=-DGGML_NATIVE=ON peer/bin/pip install --no-binary llama-cpp-python \\
        llama-cpp-python==0.3.36
    peer/bin/python tests/bench/llama_cpp_peer.py --bench build/cpu/bin/megakernel-bench --model MODEL.gguf \\
        [--threads 2] [--runs 5] [--rounds 1] [--out speed.json]

Same file, threads, machine and run: with --rounds N the two programs take turns N times, and each case keeps the best
of its medians, so that a slow spell of a shared machine hits both. Not part of the tests: it needs a quiet machine.
"""
import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import time

import llama_cpp as L

# name: (streams, prompt tokens, output tokens, decode is measured): tests/bench/cpu.cc.
CASES = {
    "decode_1": (1, 8, 96, True),
    "decode_1_depth_1024": (1, 1024, 64, True),
    "decode_8": (8, 8, 48, True),
    "decode_32": (32, 8, 32, True),
    "prefill_512": (1, 512, 1, False),
    "ttft_64": (1, 64, 1, False),
}
# Bars of the project: our tokens per second over llama.cpp's.
BARS = {"decode_1": 2.0, "decode_8": 2.0, "decode_32": 2.0, "prefill_512": 3.0}


def prompt(length, stream, vocab):
    state = 12345 + stream
    tokens = []
    for _ in range(length):
        state = (state * 1664525 + 1013904223) % 2**32
        tokens.append(100 + (state >> 8) % (vocab - 100))
    return tokens


class Peer:
    def __init__(self, path, threads, streams):
        L.llama_backend_init()
        quiet = L.llama_log_callback(lambda level, text, data: None)
        self.quiet = quiet  # kept alive: the library calls it
        L.llama_log_set(quiet, ctypes.c_void_p(0))
        self.model = L.llama_model_load_from_file(path.encode(), L.llama_model_default_params())
        params = L.llama_context_default_params()
        params.n_ctx = 2048 if streams == 1 else 128 * streams
        params.n_batch = params.n_ubatch = 512
        params.n_seq_max = streams
        params.n_threads = params.n_threads_batch = threads
        self.context = L.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit("llama.cpp: no context")
        self.vocab = L.llama_vocab_n_tokens(L.llama_model_get_vocab(self.model))
        self.batch = L.llama_batch_init(512, 0, 1)

    def close(self):
        L.llama_batch_free(self.batch)
        L.llama_free(self.context)
        L.llama_model_free(self.model)

    def decode(self, rows):
        """rows: (token, position, sequence, wants logits)."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, logits) in enumerate(rows):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = logits
        if L.llama_decode(self.context, batch) != 0:
            sys.exit("llama.cpp: decode failed")

    def greedy(self, row):
        # The sampler in C costs less than a microsecond a call more than none; numpy would cost more.
        return L.llama_sampler_sample(self.sampler, self.context, row)

    def run(self, streams, length, output, decode):
        L.llama_memory_clear(L.llama_get_memory(self.context), True)
        self.sampler = L.llama_sampler_init_greedy()
        prompts = [prompt(length, s, self.vocab) for s in range(streams)]
        rows = [
            (token, p, s, p == length - 1) for s, tokens in enumerate(prompts) for p, token in enumerate(tokens)
        ]
        start = time.perf_counter()
        ends = {}
        for first in range(0, len(rows), 512):
            chunk = rows[first:first + 512]
            self.decode(chunk)
            for i, (_, _, s, last) in enumerate(chunk):
                if last:
                    ends[s] = self.greedy(i)
        first_token = time.perf_counter()
        if not decode:
            return (first_token - start), length * streams
        for step in range(output - 1):
            self.decode([(ends[s], length + step, s, True) for s in range(streams)])
            for s in range(streams):
                ends[s] = self.greedy(s)
        return time.perf_counter() - first_token, (output - 1) * streams


def measure_peer(path, threads, runs, names):
    results = {}
    for name in names:
        streams, length, output, decode = CASES[name]
        peer = Peer(path, threads, streams)
        peer.run(streams, length, output, decode)  # warm-up
        seconds, rates = [], []
        for _ in range(runs):
            t, tokens = peer.run(streams, length, output, decode)
            seconds.append(t)
            rates.append(tokens / t)
        peer.close()
        results[name] = {"tokens_per_s_median": statistics.median(rates), "tokens_per_s_best": max(rates)}
        if not decode:
            results[name]["ms_median"] = statistics.median(seconds) * 1e3
            results[name]["ms_best"] = min(seconds) * 1e3
    return results


def better(old, new):
    """Of two results of each case, the one with the higher median."""
    merged = dict(old or {})
    for name, result in new.items():
        if name not in merged or result["tokens_per_s_median"] > merged[name]["tokens_per_s_median"]:
            merged[name] = result
    return merged


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True, help="the megakernel-bench program")
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--out")
    args = parser.parse_args()
    names = args.cases.split(",")

    report, peer = None, {}
    for _ in range(args.rounds):
        ours = json.loads(
            subprocess.run(
                [args.bench, "cpu", "--model", args.model, "--threads", str(args.threads), "--runs", str(args.runs),
                 "--cases", args.cases, "--json"],
                check=True, capture_output=True).stdout)
        ours["cases"] = better(report and report["cases"], ours["cases"])
        report = ours
        peer = better(peer, measure_peer(args.model, args.threads, args.runs, names))
    report["peer"] = {"name": "llama-cpp-python " + L.__version__, "cases": peer}
    missed = []
    for name in names:
        ratio = report["cases"][name]["tokens_per_s_median"] / peer[name]["tokens_per_s_median"]
        report["cases"][name]["ratio_to_peer"] = ratio
        if ratio < BARS.get(name, 0):
            missed.append(f"{name}: {ratio:.2f} of llama.cpp, bar {BARS[name]}")
    report["bars_missed"] = missed
    text = json.dumps(report, indent=2)
    print(text)
    if args.out:
        with open(args.out, "w") as out:
            out.write(text + "\n")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
