#!/usr/bin/env bash
# Checks the rules that no compiler checks, over a source tree:
#   tests/layers/check_layers.sh ROOT
# - layers: server -> engine -> kernels, one way; clients and the server share only proto/; engine and kernels know
#   neither gRPC nor Protobuf; kernels see only themselves, the C++ standard library and CUDA; CUDA stays in kernels
#   and engine/cuda
# - the top level holds the known names only, and every folder there has a README.md
# - no file is longer than it may be; headers have #pragma once; no notes to do something later
# Prints one line per violation; status 1 if there is any. Files: those git knows, or all where there is no git.
set -euo pipefail
cd "${1:?which tree?}"

max_lines=400        # sources, scripts and protos
max_readme_lines=250

if [ -e .git ] && command -v git >/dev/null; then
  mapfile -t files < <(git -c safe.directory='*' ls-files --cached)
else
  mapfile -t files < <(find . -path ./build -prune -o -path ./.cache -prune -o -path ./.git -prune -o -type f -print | sed 's|^\./||')
fi
present=()
for file in "${files[@]}"; do [ ! -f "$file" ] || present+=("$file"); done
[ ${#present[@]} -gt 0 ] || { echo "no files found in $PWD"; exit 1; }

violations=$(mktemp)
trap 'rm -f "$violations"' EXIT
report() { printf '%s\n' "$*" >>"$violations"; }

# Of the present files, those that match a pattern.
matching() { printf '%s\n' "${present[@]}" | grep -E "$1" || true; }

# deny FOLDER_PATTERN INCLUDE_PATTERN REASON: no file there may include what matches (between quotes or brackets).
deny() {
  local sources hits
  mapfile -t sources < <(matching "^($1).*\.(h|cc|cu|cuh|inc)\$")
  [ ${#sources[@]} -gt 0 ] || return 0
  hits=$(grep -nHE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]($2)" "${sources[@]}" || true)
  [ -z "$hits" ] || while IFS= read -r hit; do report "$hit  <- $3"; done <<<"$hits"
}

rpc='grpc|google/|megakernel/v[0-9]|.*\.pb\.h'
cuda='cuda|cooperative_groups|nvtx|nv/|mma\.h|device_'
deny 'kernels/' "$rpc" "kernels know neither gRPC nor Protobuf"
deny 'kernels/' 'engine/|server/|clients/|tests/' "kernels are below every other layer"
deny 'kernels/' 'absl/|spdlog/|nlohmann/|pcre2|gtest/|gmock/' "kernels see only the C++ standard library and CUDA"
deny 'kernels/layout/' "$cuda" "layouts are shared with hosts that have no CUDA"
deny 'engine/' "$rpc" "engine knows neither gRPC nor Protobuf"
deny 'engine/' 'server/|clients/|tests/' "engine is below the server"
deny 'engine/(base|executor|model|text|cpu|core)/' "$cuda" "CUDA stays in kernels and engine/cuda"
deny 'server/' 'clients/|tests/' "the server knows neither clients nor tests"
deny 'server/' "$cuda" "CUDA stays in kernels and engine/cuda"
deny 'clients/' 'server/|engine/|kernels/|tests/' "clients share only proto/ with the server"
deny 'server/|engine/|kernels/|clients/|tests/' '\.\.?/' "includes start at the root of the tree"

# The top level.
folders='proto server engine kernels configs clients deploy tests'
allowed=" CMakeLists.txt CMakePresets.json Makefile LICENSE README.md $folders "
while IFS= read -r name; do
  case $name in
    .*) ;;
    *) [[ $allowed == *" $name "* ]] || report "$name: not a name of the top level" ;;
  esac
done < <(printf '%s\n' "${present[@]}" | cut -d/ -f1 | sort -u)
for folder in $folders; do
  if [ -n "$(matching "^$folder/")" ] && [ ! -f "$folder/README.md" ]; then report "$folder/README.md is missing"; fi
done

# Sizes. Goldens and other data are not sources.
mapfile -t sources < <(matching '(\.(h|cc|cu|cuh|proto|sh|py|cmake)|CMakeLists\.txt|^\.ci/run|^Makefile)$' | grep -vE '/(golden|data)s?/' || true)
long() { awk -v max="$1" 'FNR == 1 && NR > 1 { check() } { name = FILENAME; lines = FNR } END { check() }
  function check() { if (lines > max) print name ": " lines " lines, at most " max }' "${@:2}"; }
if [ ${#sources[@]} -gt 0 ]; then long "$max_lines" "${sources[@]}" >>"$violations"; fi
mapfile -t readmes < <(matching '(^|/)README\.md$')
if [ ${#readmes[@]} -gt 0 ]; then long "$max_readme_lines" "${readmes[@]}" >>"$violations"; fi

# Habits.
mapfile -t headers < <(matching '\.(h|cuh)$')
if [ ${#headers[@]} -gt 0 ]; then
  { grep -L '^#pragma once$' "${headers[@]}" || true; } | sed 's/$/: no #pragma once/' >>"$violations"
fi
if [ ${#sources[@]} -gt 0 ]; then
  { grep -nHwE 'TO''DO|FIX''ME|XX''X' "${sources[@]}" || true; } | sed 's/$/  <- do it or file it/' >>"$violations"
fi
matching '(^|/)CMakeLists\.txt$|\.cmake$' | while IFS= read -r file; do
  { grep -nHE 'file\((GLOB|GLOB_RECURSE)' "$file" || true; } | sed 's/$/  <- name the sources/' >>"$violations"
done

if [ -s "$violations" ]; then
  sort -u "$violations"
  echo "$(sort -u "$violations" | wc -l) violations in ${#present[@]} files"
  exit 1
fi
echo "${#present[@]} files keep the rules"
