#!/usr/bin/env bash
# make torture: builds, runs every row in full, the fuzzers for a while, and the integration tests under the sanitizers.
#   tests/torture/run.sh [--json FILE]
set -euo pipefail
# shellcheck source=deploy/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../deploy/lib/common.sh"

json=$root/build/torture.json
[ "${1:-}" != --json ] || json=$2
"$root/deploy/setup.sh" run test
"$root/deploy/build.sh" cpu megakernel-server megakernel megakernel-torture torture_shim
status=0
MEGAKERNEL_BIN=$root/build/cpu/bin python3 "$root/tests/torture/torture.py" --json "$json" || status=1

# What takes a build of its own: one line each.
row() {
  local name=$1 started=$SECONDS verdict=ok
  shift
  "$@" >"$root/build/torture-${name// /-}.log" 2>&1 || { verdict=FAIL status=1; }
  printf '%-4s %-48s %6d s  [status 0; build/torture-%s.log]\n' "$verdict" "$name" $((SECONDS - started)) "${name// /-}"
}
row "fuzzers now" "$root/tests/fuzz/run.sh" 20 request decode session_file text config server_config
row "address and undefined" "$root/deploy/test.sh" asan tests/engine/core tests/server -LE 'model|e2e'
row "thread" "$root/deploy/test.sh" tsan tests/engine/core tests/server -LE 'model|e2e' -E bad_requests_test
exit $status
