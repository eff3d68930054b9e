// megakernel-bench make-checkpoint: a random-weight Hugging Face directory.
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/bench/arguments.h"
#include "tests/bench/preset_model.h"
#include "tests/bench/subcommand.h"
#include "tests/support/checkpoint.h"

namespace megakernel::bench {
namespace {

constexpr char kName[] = "make-checkpoint";
constexpr char kSummary[] =
    "Writes config.json and safetensors with random weights that depend on config, seed and element only.\n"
    "tests/reference/make_checkpoint.py writes the same bytes.";
constexpr Option kOptions[] = {
    {"config", "FILE|PRESET", nullptr, "a config.json, or the name of a file of configs/models without .json"},
    {"seed", "N", "1", "of the generator"},
    {"out", "DIR", nullptr, "made; must not exist or be empty"},
    {"dtype", "TYPE", "bf16", "bf16, f16 or f32"},
    {"shards", "N", "1", "1: model.safetensors; more: up to that many shards and an index"},
    {"threads", "N", "0", "0: one a processor"},
};

absl::StatusOr<test::CheckpointOptions> OptionsOf(const Arguments& args) {
  test::CheckpointOptions options;
  auto text = ConfigText(args.Text("config"));
  if (!text.ok()) return text.status();
  options.config_text = *std::move(text);
  const auto seed = args.Int("seed", 0, INT64_MAX);
  const auto shards = args.Int("shards", 1, 1000);
  const auto threads = args.Int("threads", 0, 1024);
  for (const auto* value : {&seed, &shards, &threads}) {
    if (!value->ok()) return value->status();
  }
  options.seed = static_cast<std::uint64_t>(*seed);
  options.max_shards = static_cast<int>(*shards);
  options.threads = *threads > 0 ? static_cast<int>(*threads) : static_cast<int>(std::thread::hardware_concurrency());
  const std::string& type = args.Text("dtype");
  if (type == "bf16") {
    options.type = TensorType::kBF16;
  } else if (type == "f16") {
    options.type = TensorType::kF16;
  } else if (type == "f32") {
    options.type = TensorType::kF32;
  } else {
    return absl::InvalidArgumentError(absl::StrCat("--dtype is \"", type, "\"; bf16, f16 and f32 are possible"));
  }
  return options;
}

}  // namespace

int RunMakeCheckpoint(std::span<const std::string> args) {
  int exit_status = 0;
  const auto parsed = ParseOrHelp(kName, kSummary, args, kOptions, &exit_status);
  if (!parsed) return exit_status;
  const auto options = OptionsOf(*parsed);
  if (!options.ok()) {
    std::fprintf(stderr, "megakernel-bench %s: %s\n", kName, std::string(options.status().message()).c_str());
    return 2;
  }
  const auto started = std::chrono::steady_clock::now();
  const auto bytes = test::WriteCheckpoint(*options, parsed->Text("out"));
  if (!bytes.ok()) {
    std::fprintf(stderr, "megakernel-bench %s: %s\n", kName, std::string(bytes.status().message()).c_str());
    return 1;
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  std::printf("%s: %lld bytes of tensors in %.2f s\n", parsed->Text("out").c_str(), static_cast<long long>(*bytes),
              seconds);
  return 0;
}

}  // namespace megakernel::bench
