#!/usr/bin/env bash
# Builds the fuzz targets and lets the fuzzer look for inputs that crash, hang, leak or break a rule of the language.
#   tests/fuzz/run.sh SECONDS [--evidence] [TARGET...]      default: all targets, SECONDS each
# Inputs that reach new code collect in build/fuzz/corpora; an input that fails stays in build/fuzz and ends the run with
# status 1. --evidence adds what was run to tests/fuzz/evidence.json. Needs clang and its fuzzer runtime
# (deploy/setup.sh test).
set -euo pipefail
me=fuzz
# shellcheck source=deploy/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../deploy/lib/common.sh"

seconds=${1:?how many seconds for each target?}
shift
evidence=
if [ "${1:-}" = --evidence ]; then
  evidence=$root/tests/fuzz/evidence.json
  shift
fi
[ $# -gt 0 ] || set -- safetensors gguf tokenizer template config request decode session_file text server_config

"$root/deploy/build.sh" fuzz "${@/#/fuzz_}"
for name in "$@"; do
  found=$root/build/fuzz/corpora/$name
  log=$root/build/fuzz/$name.log
  mkdir -p "$found"
  if ! "$root/build/fuzz/bin/fuzz_$name" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=3000 -max_len=16384 \
    -print_final_stats=1 -verbosity=1 -artifact_prefix="$root/build/fuzz/$name-" "$found" \
    "$root/tests/fuzz/corpora/$name" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    die "$name: an input fails; it is one of build/fuzz/$name-*"
  fi
  inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  covered=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
  say "$name: $inputs inputs in $seconds s, $covered edges covered, none fails"
  if [ -n "$evidence" ]; then
    python3 - "$evidence" "$name" "$inputs" "$covered" "$seconds" "$(git -C "$root" rev-parse HEAD)" <<'PYTHON'
import json, os, sys
path, name, inputs, covered, seconds, commit = sys.argv[1:]
evidence = {"targets": {}}
if os.path.exists(path):
    with open(path) as file:
        evidence = json.load(file)
before = evidence["targets"].get(name, {"inputs": 0, "seconds": 0})
evidence["targets"][name] = {"inputs": before["inputs"] + int(inputs), "seconds": before["seconds"] + int(seconds),
                             "crashes": 0, "edges_covered": int(covered), "commit": commit}
evidence["inputs"] = sum(target["inputs"] for target in evidence["targets"].values())
evidence["crashes"] = 0
evidence["sanitizers"] = "address, undefined"
with open(path, "w") as file:
    json.dump(evidence, file, indent=2)
    file.write("\n")
PYTHON
  fi
done
