// megakernel-bench validate-all: everything that can be checked of the GPU kernel on small models, in one table.
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "tests/bench/arguments.h"
#include "tests/bench/subcommand.h"
#include "tests/support/temp_checkpoint.h"

namespace megakernel::bench {
namespace {

constexpr char kName[] = "validate-all";
constexpr char kSummary[] =
    "Runs verify (three small shapes, both layouts of KV pages, positions to 2,047), sample and bench on this GPU and\n"
    "prints one table. Exit status 1 unless all of them pass. tests/gpu/run does more and writes evidence.";
constexpr Option kOptions[] = {{"seed", "N", "1", "of the random checkpoints"}};

struct Line {
  std::string name;
  int status = 0;
  double seconds = 0.0;
};

class Table {
 public:
  void Run(const std::string& name, int (*run)(std::span<const std::string>), const std::vector<std::string>& args) {
    std::printf("--- %s\n", name.c_str());
    const auto started = std::chrono::steady_clock::now();
    Line line{.name = name};
    line.status = run(args);
    line.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    lines_.push_back(line);
  }

  // Prints the table; 0 when all passed.
  int Print() const {
    int failed = 0;
    std::printf("\n%-44s %-8s %s\n", "check", "result", "seconds");
    for (const Line& line : lines_) {
      std::printf("%-44s %-8s %7.2f\n", line.name.c_str(), line.status == 0 ? "pass" : "FAILED", line.seconds);
      failed += line.status != 0;
    }
    return failed == 0 ? 0 : 1;
  }

 private:
  std::vector<Line> lines_;
};

}  // namespace

int RunValidateAll(std::span<const std::string> args) {
  int exit_status = 0;
  const auto parsed = ParseOrHelp(kName, kSummary, args, kOptions, &exit_status);
  if (!parsed) return exit_status;
  const std::string& seed = parsed->Text("seed");
  Table table;
  for (const std::string preset : {"qwen3-tiny", "smollm2-tiny", "llama-tiny"}) {
    const test::TempDirectory directory;
    table.Run("make-checkpoint " + preset, RunMakeCheckpoint,
              {"--config", preset, "--seed", seed, "--out", directory.path()});
    for (const std::string layout : {"0", "1"}) {
      table.Run("verify " + preset + ", kv layout " + layout, RunVerify,
                {"--model", directory.path(), "--backend", "cuda", "--precision", "default", "--tokens", "2048",
                 "--positions", "0-127:7,128-2047:61", "--kv-layout", layout});
    }
  }
  table.Run("sample", RunSample, {"--seed", seed, "--draws", "5"});
  table.Run("bench qwen3-tiny, batch 8", RunBench,
            {"--config", "qwen3-tiny", "--seed", seed, "--pos", "64", "--batch", "8", "--runs", "5"});
  return table.Print();
}

}  // namespace megakernel::bench
