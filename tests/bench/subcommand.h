// The subcommands of megakernel-bench.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace megakernel::bench {

// Exit statuses: 0 done and within its bars, 1 failed or a bar was missed, 2 wrong usage.
struct Subcommand {
  const char* name;
  const char* summary;  // one line
  int (*run)(std::span<const std::string> args);
};

int RunCpu(std::span<const std::string> args);
int RunMakeCheckpoint(std::span<const std::string> args);
int RunServe(std::span<const std::string> args);
int RunServeClient(std::span<const std::string> args);
int RunTokenize(std::span<const std::string> args);
int RunVerify(std::span<const std::string> args);

// In builds with MEGAKERNEL_CUDA.
int RunBench(std::span<const std::string> args);
int RunGrpc(std::span<const std::string> args);
int RunProfile(std::span<const std::string> args);
int RunSample(std::span<const std::string> args);
int RunSourceHash(std::span<const std::string> args);
int RunValidateAll(std::span<const std::string> args);

}  // namespace megakernel::bench
