#!/usr/bin/env bash
# Tries what a user gets: installs into a temporary prefix, runs the programs there, checks that the set-up scripts do
# nothing when nothing is to do and repair what is damaged; then compose file, packages with the service unit, and image.
#   deploy/test_deploy.sh      as root: images and packages need file systems of their own
set -euo pipefail
me="test-deploy"
# shellcheck source=deploy/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
cd "$root"

passed=0
server=
prefix=$(mktemp -d)
clean_up() {
  [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
  rm -rf "$prefix"
}
trap clean_up EXIT

ok() {
  passed=$((passed + 1))
  say "ok: $*"
}

# exits STATUS WORD COMMAND...: the command must end with the status, and what it prints must hold the word.
exits() {
  local expected=$1 word=$2 status=0 output
  shift 2
  output=$(timeout 30 "$@" 2>&1 </dev/null) || status=$?
  [ "$status" -eq "$expected" ] || die "'${*##*/}' ended with $status, not $expected: $output"
  grep -qF -- "$word" <<<"$output" || die "'${*##*/}' does not say '$word': $output"
  ok "${*##*/}: status $expected, says '$word'"
}

[ "$(id -u)" -eq 0 ] || die "images and packages are tried in file systems of their own, which needs root: use sudo"
deploy/setup.sh run test deploy
deploy/build.sh cpu megakernel-server megakernel

# Set-up and model: silent and quick when nothing is to do, and able to repair.
output=$(deploy/setup.sh run test deploy 2>&1)
[ -z "$output" ] || die "a second set-up is not silent: $output"
ok "a second set-up does nothing"
model=$(deploy/fetch_model.sh)
[ "$(deploy/fetch_model.sh 2>&1)" = "$model" ] || die "a second fetch is not silent"
ok "a second fetch does nothing"
# A damaged copy is moved into place: a server that has the good file mapped keeps it.
cp "$model" "$model.damaged"
printf 'x' | dd of="$model.damaged" bs=1 seek=50000000 conv=notrunc status=none
mv -f "$model.damaged" "$model"
output=$(deploy/fetch_model.sh 2>&1 >/dev/null)
grep -qF "$model is damaged" <<<"$output" || die "a damaged model is not named: $output"
[ "$(deploy/fetch_model.sh 2>&1)" = "$model" ] || die "the damaged model was not replaced"
ok "a damaged model is named and fetched again"

# The installed programs.
cmake --install build/cpu --prefix "$prefix" --strip >/dev/null
for file in bin/megakernel-server bin/megakernel share/megakernel/configs/server/local.json share/doc/megakernel/LICENSE; do
  [ -f "$prefix/$file" ] || die "cmake --install did not install $file"
done
! ldd "$prefix"/bin/* | grep 'not found' || die "libraries are missing"
ok "installed $(find "$prefix" -type f | wc -l) files"
cd /  # nothing may be found by its place in the checkout
exits 0 --model "$prefix/bin/megakernel-server" --help
exits 0 chat "$prefix/bin/megakernel" --help
exits 2 --no-such-flag "$prefix/bin/megakernel-server" --no-such-flag
exits 2 no-such-command "$prefix/bin/megakernel" no-such-command
exits 2 /no/such/file "$prefix/bin/megakernel-server" --config /no/such/file --device fake

"$prefix/bin/megakernel-server" --config "$prefix/share/megakernel/configs/server/local.json" --device cpu --model "$model" \
  --listen 127.0.0.1:0 >"$prefix/log" 2>&1 </dev/null &
server=$!
address=
for _ in $(seq 300); do
  address=$(sed -n 's/.*serving address.*\(127\.0\.0\.1:[0-9]*\).*/\1/p' "$prefix/log" | head -n 1)
  if [ -n "$address" ] || ! kill -0 $server 2>/dev/null; then break; fi
  sleep 0.1
done
[ -n "$address" ] || die "the installed server does not start: $(cat "$prefix/log")"
exits 0 Smollm2 "$prefix/bin/megakernel" model --server "$address"
exits 0 "" "$prefix/bin/megakernel" generate --server "$address" --temperature 0 --max-tokens 8 "The capital of France is"
exits 1 "$address" "$prefix/bin/megakernel-server" --device fake --listen "$address"
kill -TERM $server
status=0
wait $server || status=$?
server=
[ "$status" -eq 0 ] || die "the server ended with $status after SIGTERM: $(cat "$prefix/log")"
ok "SIGTERM ends the server with status 0"

printf '%d passed, 0 failed\n' "$passed"

# What others run: each test ends with its own count.
cd "$root"
deploy/package.sh
MEGAKERNEL_BASE=$(deploy/debian_base.sh)
export MEGAKERNEL_BASE MEGAKERNEL_PACKAGES=$root/build/package/packages MEGAKERNEL_TEST_MODEL=$model
export MEGAKERNEL_BIN=$root/build/cpu/bin PYTHONDONTWRITEBYTECODE=1
for test in compose package image; do
  started=$SECONDS
  say "$test"
  /usr/bin/python3 "tests/deploy/${test}_test.py" || die "the $test test failed"
  say "$test: $((SECONDS - started)) s"
done
