#!/usr/bin/env bash
# Sets up, builds a preset with its tests, and runs them.
#   deploy/test.sh PRESET [CTEST FLAG...]     e.g. deploy/test.sh asan -L unit
# No test found is an error.
set -euo pipefail
me="test"
# shellcheck source=deploy/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

preset=${1:?which preset?}
shift
"$root/deploy/setup.sh" run test
"$root/deploy/fetch_model.sh" >/dev/null
"$root/deploy/build.sh" "$preset"
cd "$root"
# The preset makes "no test" an error and prints what a failing test said.
ctest --preset "$preset" --parallel "${MK_JOBS:-$(nproc)}" "$@"
