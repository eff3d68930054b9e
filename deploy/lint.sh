#!/usr/bin/env bash
# Checks form: clang-format, shellcheck, buf lint and clang-tidy, over the files that git knows.
#   deploy/lint.sh [--fix] [format] [shell] [proto] [tidy]      default: all four
# --fix formats the C++ files in place instead and checks nothing. Needs `deploy/setup.sh lint`; tidy needs a configured
# build/cpu with its generated code. $MK_TIDY narrows tidy to some folders, for example "clients/cli engine/core".
set -euo pipefail
me=lint
# shellcheck source=deploy/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
cd "$root"

clang_format=$cache/venv/bin/clang-format # pinned: releases format differently
mapfile -t sources < <(git ls-files '*.h' '*.cc' '*.cu' '*.cuh')

check_format() {
  local bad
  bad=$("$clang_format" --dry-run "${sources[@]}" 2>&1 | sed -n 's/^\([^ ]*\):[0-9]*:[0-9]*: warning: code should be.*/\1/p' | sort -u)
  [ -z "$bad" ] || die "not formatted, run 'make fmt':"$'\n'"$bad"
  say "format: ${#sources[@]} files"
}

check_shell() {
  local scripts
  mapfile -t scripts < <(git ls-files | while read -r file; do
    if [ -f "$file" ] && head -n 1 "$file" | grep -qE '^#!.*\b(bash|sh)$|^# shellcheck shell='; then echo "$file"; fi
  done)
  shellcheck -x "${scripts[@]}" || die "shellcheck objects to the lines above"
  say "shell: ${#scripts[@]} scripts"
}

check_proto() {
  (cd proto && "$cache/venv/bin/buf" lint) || die "buf objects to the lines above"
  say "proto: clean"
}

# .clang-tidy names the checks. One file per process, as many at once as there are cores.
check_tidy() {
  local units folders
  [ -f build/cpu/compile_commands.json ] || die "tidy needs build/cpu: run 'make build'"
  read -ra folders <<<"${MK_TIDY:-engine kernels server clients}"
  mapfile -t units < <(git ls-files "${folders[@]/%//*.cc}" |
    while read -r file; do if grep -qF "$root/$file\"" build/cpu/compile_commands.json; then echo "$file"; fi; done)
  [ ${#units[@]} -gt 0 ] || die "tidy: build/cpu/compile_commands.json names none of the sources"
  printf '%s\n' "${units[@]}" | xargs -P "${MK_JOBS:-$(nproc)}" -n 1 clang-tidy --quiet -p build/cpu 2>/dev/null ||
    die "clang-tidy objects to the lines above"
  say "tidy: ${#units[@]} files"
}

if [ "${1:-}" = --fix ]; then
  "$clang_format" -i "${sources[@]}"
  exit 0
fi
[ $# -gt 0 ] || set -- format shell proto tidy
for part in "$@"; do
  case $part in
    format | shell | proto | tidy) "check_$part" ;;
    *) die "unknown part '$part'; there are format, shell, proto and tidy" ;;
  esac
done
