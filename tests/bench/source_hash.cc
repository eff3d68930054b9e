// megakernel-bench source-hash: which source of the GPU code this program was built from.
#include <cstdio>

#include "gpu_source_hash.h"  // written by the build
#include "tests/bench/subcommand.h"

namespace megakernel::bench {

int RunSourceHash(std::span<const std::string> args) {
  if (!args.empty()) {
    std::printf("usage: megakernel-bench source-hash\n\nPrints what tests/gpu/source_hash printed at build time.\n");
    return args[0] == "--help" ? 0 : 2;
  }
  std::printf("%s\n", MEGAKERNEL_GPU_SOURCE_HASH);
  return 0;
}

}  // namespace megakernel::bench
