// megakernel-bench: measures, verifies, and makes what tests need. One subcommand a file.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "tests/bench/subcommand.h"

namespace megakernel::bench {
namespace {

constexpr Subcommand kSubcommands[] = {
#if defined(MEGAKERNEL_CUDA)
    {"bench", "speed of the resident GPU kernel beside the floor of this GPU", RunBench},
    {"grpc", "tokens per second of a stream through the server over those in-process", RunGrpc},
    {"profile", "where a step of the resident GPU kernel spends its time", RunProfile},
    {"sample", "tokens drawn on the GPU against the CPU executor's sampler on the same logits", RunSample},
    {"source-hash", "which source of the GPU code this program was built from", RunSourceHash},
    {"validate-all", "verify, sample and bench on small models, in one table", RunValidateAll},
#endif
    {"cpu", "speed of the CPU executor beside the floor of this machine", RunCpu},
    {"make-checkpoint", "write a random-weight Hugging Face directory from a config and a seed", RunMakeCheckpoint},
    {"serve", "what the server adds to a token: latency from executor to network, tokens per second", RunServe},
    {"serve-client", "the client that serve starts", RunServeClient},
    {"tokenize", "speed of the tokenizer; tests/reference/tokenize_speed.py runs it beside a peer", RunTokenize},
    {"verify", "compare logits of a model with the reference, or dump them", RunVerify},
};

int Usage(std::FILE* out) {
  std::fprintf(out, "usage: megakernel-bench SUBCOMMAND [OPTIONS]\n\n");
  for (const Subcommand& command : kSubcommands) std::fprintf(out, "  %-16s %s\n", command.name, command.summary);
  std::fprintf(out, "\nmegakernel-bench SUBCOMMAND --help tells its options.\n");
  return out == stdout ? 0 : 2;
}

}  // namespace
}  // namespace megakernel::bench

int main(int argc, char** argv) {
  using namespace megakernel::bench;
  if (argc < 2) return Usage(stderr);
  if (std::strcmp(argv[1], "--help") == 0 || std::strcmp(argv[1], "help") == 0) return Usage(stdout);
  const std::vector<std::string> args(argv + 2, argv + argc);
  for (const Subcommand& command : kSubcommands) {
    if (std::strcmp(argv[1], command.name) == 0) return command.run(args);
  }
  std::fprintf(stderr, "megakernel-bench: no subcommand \"%s\"\n\n", argv[1]);
  return Usage(stderr);
}
