#!/usr/bin/env python3
"""Compares logits of this project with transformers' on the same checkpoint, positions and GPU.

    gpu_parity.py --checkpoint DIR --dump PREFIX [--out parity.json] [--bar 0.005] [--device cuda]

PREFIX is a dump of `megakernel-bench verify --dump PREFIX` (format: logits.py). transformers computes the same
positions in float32 (the reference) and in bfloat16 (what others serve). Reported for the dump and for bfloat16:
relative error ||l - ref||2 / ||ref||2 per position, its maximum, the largest absolute error, differing argmaxes and
those beyond twice that error. Exit status 1 when the maximum exceeds --bar, exceeds bfloat16's, or an argmax differs
beyond the margin.
"""
import argparse
import json
import sys
import time

from logits import TransformersModel, compare, read_dump


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--dump", required=True, action="append", help="may be given several times: same positions")
    parser.add_argument("--out")
    parser.add_argument("--bar", type=float, default=0.005)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()

    import torch
    import transformers
    dumps = [read_dump(prefix) for prefix in args.dump]
    sequences = dumps[0][0]["sequences"]
    if any(meta["sequences"] != sequences for meta, _ in dumps):
        sys.exit("the dumps differ in tokens or positions")
    started = time.time()
    reference = TransformersModel(args.checkpoint, "fp32", args.device).logits(sequences)
    bf16 = compare(reference, TransformersModel(args.checkpoint, "bf16", args.device).logits(sequences))
    report = {
        "checkpoint": args.checkpoint,
        "device": torch.cuda.get_device_name(0) if args.device.startswith("cuda") else "cpu",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "seconds": round(time.time() - started, 1),
        "bar": args.bar,
        "transformers_bf16": bf16,
        "dumps": [],
    }
    good = True
    for prefix, (meta, rows) in zip(args.dump, dumps):
        result = compare(reference, rows)
        result["dump"], result["source"] = prefix, meta["source"]
        result["pass"] = (result["finite"] and result["relative_error_max"] <= args.bar
                          and result["relative_error_max"] <= bf16["relative_error_max"]
                          and result["argmax_differs_beyond_margin"] == 0)
        good = good and result["pass"]
        report["dumps"].append(result)
        print(f"{meta['source']}: {result['positions']} positions, relative error max "
              f"{result['relative_error_max']:.3e} mean {result['relative_error_mean']:.3e}, absolute "
              f"{result['absolute_error_max']:.3e}, argmax differs {result['argmax_differs']} "
              f"(beyond margin {result['argmax_differs_beyond_margin']}): {'pass' if result['pass'] else 'FAIL'}")
    print(f"transformers bf16: relative error max {bf16['relative_error_max']:.3e} mean "
          f"{bf16['relative_error_mean']:.3e}, argmax differs {bf16['argmax_differs']}")
    if args.out:
        with open(args.out, "w") as file:
            json.dump(report, file)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
