#!/usr/bin/env bash
# Proves that check_layers.sh finds what it claims to find: one small tree that keeps the rules, then one violation at a
# time, each of which must be reported by name.
#   tests/layers/check_layers_test.sh
set -euo pipefail
check=$(cd "$(dirname "$0")" && pwd)/check_layers.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0

fresh() {
  rm -rf "${tree:?}"/*
  mkdir -p "$tree"/{engine/core,engine/cuda,kernels/layout,server,clients,tests}
  local folder
  for folder in engine kernels server clients tests; do echo "# $folder" >"$tree/$folder/README.md"; done
  printf '#pragma once\n#include <vector>\n' >"$tree/kernels/layout/plan.h"
  printf '#pragma once\n#include <cuda_runtime.h>\n#include "kernels/layout/plan.h"\n' >"$tree/engine/cuda/executor.h"
  printf '#include "absl/status/status.h"\n#include "kernels/layout/plan.h"\n' >"$tree/engine/core/engine.cc"
  printf '#include <grpcpp/grpcpp.h>\n#include "engine/core/engine.h"\n' >"$tree/server/service.cc"
}

# caught FILE LINE WORD: with the line added to the file, the check must fail and its output must hold the word.
caught() {
  local output
  fresh
  mkdir -p "$(dirname "$tree/$1")"
  printf '%b\n' "$2" >>"$tree/$1"
  if output=$("$check" "$tree"); then
    echo "not caught: $1: ${2:0:60}"
    failures=$((failures + 1))
  elif ! grep -qF "$3" <<<"$output"; then
    printf 'caught %s, but without naming "%s":\n%s\n' "$1" "$3" "$output"
    failures=$((failures + 1))
  fi
}

fresh
"$check" "$tree" >/dev/null || { echo "the clean tree is refused:"; "$check" "$tree" || true; failures=1; }

caught kernels/layout/plan.h '#include "engine/core/engine.h"' 'kernels are below'
caught kernels/layout/plan.h '#include "absl/types/span.h"' 'only the C++ standard library'
caught kernels/layout/plan.h '#include <cuda_fp16.h>' 'no CUDA'
caught kernels/a.cu '#include <grpcpp/server.h>' 'neither gRPC'
caught engine/core/engine.cc '# include <grpc/grpc.h>' 'neither gRPC'
caught engine/core/engine.cc '#include "megakernel/v1/generation.pb.h"' 'neither gRPC'
caught engine/core/engine.cc '#include <google/protobuf/message.h>' 'neither gRPC'
caught engine/core/engine.cc '#include "server/service.h"' 'below the server'
caught engine/core/engine.cc '#include <cuda_runtime.h>' 'CUDA stays'
caught server/service.cc '#include "clients/cpp/client.h"' 'neither clients nor tests'
caught server/service.cc '#include <cuda.h>' 'CUDA stays'
caught clients/cli.cc '#include "engine/core/engine.h"' 'only proto/'
caught engine/core/engine.cc '#include "../core/a.h"' 'start at the root'
caught notes.txt 'x' 'not a name of the top level'
caught proto/a.proto 'x' 'proto/README.md is missing'
caught engine/core/long.cc "$(printf 'x\\n%.0s' {1..401})" 'lines, at most'
caught engine/README.md "$(printf 'x\\n%.0s' {1..251})" 'lines, at most'
caught engine/core/a.h '#include <vector>' 'no #pragma once'
caught engine/core/a.cc '// TO''DO: later' 'do it or file it'
caught engine/CMakeLists.txt 'file(GLOB sources *.cc)' 'name the sources'

[ "$failures" -eq 0 ] || { echo "$failures failures"; exit 1; }
echo "every violation is caught"
