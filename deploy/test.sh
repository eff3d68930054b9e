#!/usr/bin/env bash
# Sets up, builds a preset with its tests, and runs them.
#   deploy/test.sh PRESET [FOLDER...] [CTEST FLAG...]     e.g. deploy/test.sh asan tests/engine -R kv
# With folders only their tests are built and run. No test found is an error.
set -euo pipefail
me="test"
# shellcheck source=deploy/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

preset=${1:?which preset?}
shift
folders=()
while [ $# -gt 0 ] && [ -d "$root/$1" ]; do
  folders+=("${1%/}")
  shift
done
jobs=${MK_JOBS:-$(nproc)}

"$root/deploy/setup.sh" run test
"$root/deploy/fetch_model.sh" >/dev/null
"$root/deploy/fetch_tokenizer.sh" >/dev/null
"$root/deploy/build.sh" "$preset" ${folders[@]+"${folders[@]/%//all}"}
cd "$root"
if [ ${#folders[@]} -eq 0 ]; then
  # The preset makes "no test" an error and prints what a failing test said.
  ctest --preset "$preset" --parallel "$jobs" "$@"
  # A minute of fuzzing, where there is a fuzzer: ten targets.
  if [ "$preset" = cpu ] && compgen -G "/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a" >/dev/null; then
    "$root/tests/fuzz/run.sh" 6
  fi
fi
for folder in ${folders[@]+"${folders[@]}"}; do
  say "$preset, $folder"
  ctest --test-dir "build/$preset/$folder" --no-tests=error --output-on-failure --parallel "$jobs" "$@"
done
