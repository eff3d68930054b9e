#!/usr/bin/env python3
"""`megakernel-bench verify` on checkpoints that the program itself makes, against transformers' logits in float32.

The goldens (tests/kernels/goldens, by tests/reference/transformers_logits.py) hold the logits of 300 tokens at positions
0, 6, 63, 64 and 299. A damaged dump must be found. A real server on such a checkpoint must give transformers' log
probabilities and greedy tokens (tests/reference/goldens)."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

BENCH = os.path.join(os.environ["MEGAKERNEL_BIN"], "megakernel-bench")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GOLDENS = os.path.join(ROOT, "tests", "kernels", "goldens")
PRESETS = ("qwen3-tiny", "llama-tiny", "qwen2-tiny", "smollm2-tiny")
# transformers adds 300 to 1,000 products in float32 and rounds rotary angles: some 1e-6 in all, at most 2.8e-6 seen.
BAR = "1e-5"


def run(*arguments):
    return subprocess.run([BENCH, *arguments], capture_output=True, text=True, timeout=100, check=False, cwd=ROOT)


class VerifyTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def checkpoint(self, preset):
        path = os.path.join(self.folder.name, preset)
        made = run("make-checkpoint", "--config", os.path.join(ROOT, "configs", "models", preset + ".json"), "--seed", "1",
                   "--out", path, "--shards", "3")
        self.assertEqual(made.returncode, 0, made.stderr)
        return path

    def verify(self, checkpoint, prefix):
        return run("verify", "--model", checkpoint, "--against", prefix, "--bar", BAR, "--float-angles", "--json")

    def test_logits_are_those_of_transformers(self):
        for preset in PRESETS:
            with self.subTest(preset):
                result = self.verify(self.checkpoint(preset), os.path.join(GOLDENS, preset))
                self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
                print(preset, " ".join(result.stdout.split())[:300])

    def test_a_wrong_logit_is_found(self):
        prefix = os.path.join(self.folder.name, "dump")
        for ending in (".json", ".f32"):
            shutil.copy(os.path.join(GOLDENS, PRESETS[0] + ending), prefix + ending)
        with open(prefix + ".json", encoding="utf-8") as file:
            vocab = json.load(file)["vocab"]
        with open(prefix + ".f32", "r+b") as file:
            file.seek(4 * vocab + 3)  # sign and exponent of the first logit of the second row
            file.write(b"\x42")
        result = self.verify(self.checkpoint(PRESETS[0]), prefix)
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)

    def test_a_server_gives_what_transformers_gives(self):
        result = run("verify", "--goldens", "tests/reference/goldens/qwen2-tiny", "--backend", "server", "--precision",
                     "default")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        server = json.loads(result.stdout)["server"]
        self.assertEqual(server["rows"], 1 + 7 + 300 + 256)
        self.assertEqual(server["greedy_tokens"], 256)
        self.assertTrue(server["pass"])

    def test_goldens_of_another_model_are_refused(self):
        result = run("verify", "--goldens", "tests/reference/goldens/qwen2-tiny", "--model",
                     self.checkpoint("qwen3-tiny"), "--backend", "cpu", "--precision", "default")
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertIn("vocabulary", result.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
