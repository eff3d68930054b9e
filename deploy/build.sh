#!/usr/bin/env bash
# Configures and builds a preset of CMakePresets.json in build/PRESET.
#   deploy/build.sh PRESET [TARGET...]      default: all targets
# MK_JOBS limits the compilers at work; the default is the number of cores this process may use.
set -euo pipefail
me=build
# shellcheck source=deploy/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

preset=${1:?"which preset? $(cd "$root" && cmake --list-presets | sed -n 's/^ *"\([a-z]*\)".*/\1/p' | tr '\n' ' ')"}
shift
cd "$root"
# The compiler cache keeps the results of each language apart; one language, whoever builds.
unset LC_ALL LC_CTYPE LC_MESSAGES LANGUAGE
export LANG=C.UTF-8
# Configuring takes seconds, and ninja does it again by itself when a CMake file changed, but it does not know presets.
if [ ! -f "build/$preset/build.ninja" ] || [ CMakePresets.json -nt "build/$preset/build.ninja" ]; then
  step "configuring $preset" cmake --preset "$preset" || die "CMake stopped; its output is in $step_log"
fi
started=$SECONDS
cmake --build --preset "$preset" --parallel "${MK_JOBS:-$(nproc)}" ${@+--target "$@"} ||
  die "the build of $preset failed; the first error above is the cause"
say "$preset is built ($((SECONDS - started)) s)"
