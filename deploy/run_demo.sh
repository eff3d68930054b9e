#!/usr/bin/env bash
# From a checkout to streamed tokens: sets up, builds, fetches the default model, starts a server on a free port of
# 127.0.0.1 and talks to it.
#   deploy/run_demo.sh [SERVER FLAG...]       e.g. --device cpu
# On a terminal it ends in an interactive chat; otherwise one reply is printed. The server is stopped in every case,
# also when this script is killed.
set -euo pipefail
me=run
# shellcheck source=deploy/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

prompt="Explain in three sentences why the sky is blue."
start_limit_s=60 # model loading takes about a second; a machine under load may need longer

"$root/deploy/setup.sh" run
"$root/deploy/build.sh" cpu megakernel-server megakernel
model=$("$root/deploy/fetch_model.sh")
bin=$root/build/cpu/bin
mkdir -p "$logs"
server_log=$logs/server.log
: >"$server_log"

server=
stop_server() {
  local waited
  trap '' INT TERM
  [ -n "$server" ] || return 0
  kill -TERM "$server" 2>/dev/null || true
  for ((waited = 0; waited < 100; ++waited)); do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  server=
}
trap stop_server EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# A session of its own, so that Ctrl-C in the chat does not reach the server; and the kernel ends it should this script
# be killed without a chance to.
setsid setpriv --pdeathsig TERM "$bin/megakernel-server" --model "$model" --listen 127.0.0.1:0 "$@" \
  >"$server_log" 2>&1 </dev/null &
server=$!

# The server was told port 0: it says which one it got, and its health says when the model is loaded.
address=
ready=
for ((deadline = SECONDS + start_limit_s; SECONDS < deadline; )); do
  address=$(sed -n 's/.*listening address=\([^ ]*\).*/\1/p' "$server_log" | head -n 1)
  if [ -n "$address" ] && "$bin/megakernel" health --server "$address" >/dev/null 2>&1; then
    ready=1
    break
  fi
  if ! kill -0 "$server" 2>/dev/null; then
    cat "$server_log" >&2
    server=
    die "the server did not start; its log is above"
  fi
  sleep 0.1
done
if [ -z "$ready" ]; then
  cat "$server_log" >&2
  die "the server was not ready within $start_limit_s s; its log is above"
fi
say "server $address, log $server_log"

status=0
if [ -t 0 ] && [ -t 1 ]; then
  # A process group of its own for the client, so that Ctrl-C stops the reply and not make.
  set -m
  terminal=$(stty -g)
  stty susp undef
  # A small model at temperature 1 wanders off; these are its makers' settings.
  "$bin/megakernel" chat --server "$address" --temperature 0.2 --top-p 0.9 --max-tokens 512 || status=$?
  stty "$terminal"
  set +m
else
  "$bin/megakernel" generate --server "$address" --chat --stats --temperature 0 --max-tokens 128 "$prompt" \
    </dev/null || status=$?
fi
stop_server
exit "$status"
