// megakernel-bench sample: tokens that the resident kernel draws against the sampler of the CPU executor on the same
// logits, over a real vocabulary.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/cpu/isa.h"
#include "engine/cpu/sampler.h"
#include "tests/bench/arguments.h"
#include "tests/bench/gpu_logits.h"
#include "tests/bench/preset_model.h"
#include "tests/bench/subcommand.h"
#include "tests/support/logit_dump.h"

namespace megakernel::bench {
namespace {

constexpr char kName[] = "sample";
constexpr char kSummary[] =
    "Draws tokens on the GPU under many sampling parameters, reads the logits that they were drawn from, and draws "
    "again\n"
    "with the CPU executor's sampler. Exit status 1 unless all tokens are equal: the contract of\n"
    "kernels/layout/sampling.h has no room for rounding.";
constexpr Option kOptions[] = {
    {"config", "FILE|PRESET", "qwen3-tiny", "of the random checkpoint that is made for the run"},
    {"vocab", "N", "151936", "in the place of the config's vocabulary"},
    {"seed", "N", "1", "of the checkpoint and of the prompts"},
    {"draws", "N", "20", "of each set of parameters"},
    {"json", nullptr, nullptr, "print the result as JSON"},
};

SamplingParams Params(float temperature, std::int32_t top_k, float top_p, float min_p) {
  SamplingParams params;
  params.temperature = temperature;
  params.top_k = top_k;
  params.top_p = top_p;
  params.min_p = min_p;
  return params;
}

std::vector<SamplingParams> ParameterSets() {
  return {Params(1.0f, 0, 1.0f, 0.0f),    Params(0.3f, 0, 1.0f, 0.0f),   Params(5.0f, 0, 1.0f, 0.0f),
          Params(1.0f, 1, 1.0f, 0.0f),    Params(1.0f, 40, 1.0f, 0.0f),  Params(1.0f, 5000, 1.0f, 0.0f),
          Params(1.0f, 0, 0.9f, 0.0f),    Params(1.0f, 0, 0.01f, 0.0f),  Params(0.7f, 0, 0.999f, 0.0f),
          Params(1.0f, 0, 1.0f, 0.05f),   Params(2.0f, 0, 1.0f, 0.9f),   Params(0.8f, 50, 0.95f, 0.02f),
          Params(100.0f, 20, 0.5f, 0.5f), Params(0.01f, 0, 0.99f, 0.0f), Params(1.0f, 100000, 0.97f, 0.001f)};
}

absl::StatusOr<std::unique_ptr<test::TempDirectory>> WideCheckpoint(const Arguments& args, std::uint64_t seed) {
  MK_ASSIGN_OR_RETURN(const std::int64_t vocab, args.Int("vocab", 1, 1 << 20));
  MK_ASSIGN_OR_RETURN(const std::string text, ConfigText(args.Text("config")));
  nlohmann::ordered_json config = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) return absl::InvalidArgumentError("--config is no JSON object");
  config["vocab_size"] = vocab;
  test::CheckpointOptions options;
  options.config_text = config.dump(2);
  options.seed = seed;
  options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  auto directory = std::make_unique<test::TempDirectory>();
  MK_RETURN_IF_ERROR(test::WriteCheckpoint(options, directory->path()).status());
  return directory;
}

absl::StatusOr<nlohmann::ordered_json> Measure(const Arguments& args) {
  MK_ASSIGN_OR_RETURN(const int draws, args.Int("draws", 1, 100000));
  MK_ASSIGN_OR_RETURN(const std::int64_t seed, args.Int("seed", 0, INT64_MAX));
  MK_ASSIGN_OR_RETURN(const std::unique_ptr<test::TempDirectory> directory,
                      WideCheckpoint(args, static_cast<std::uint64_t>(seed)));
  MK_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, LoadModel(directory->path()));
  MK_ASSIGN_OR_RETURN(const cpu::KernelTable* kernels, cpu::KernelsFor(CpuIsa::kAuto));
  const std::int32_t vocab = model->config().vocab;
  cpu::Sampler sampler(*kernels, vocab);
  const cpu::TokenCounts none;
  GpuLogits gpu;
  MK_RETURN_IF_ERROR(gpu.Load(*model, 128, 1));
  std::int64_t total = 0, differ = 0;
  const std::vector<SamplingParams> sets = ParameterSets();
  for (int draw = 0; draw < draws; ++draw) {
    const std::vector<TokenId> prompt = test::RandomTokens(static_cast<std::uint64_t>(seed + draw), 6, vocab);
    for (SamplingParams params : sets) {
      params.seed = static_cast<std::uint64_t>(seed) << 32 | static_cast<std::uint64_t>(draw);
      MK_ASSIGN_OR_RETURN(GpuLogits::Row row, gpu.Run(prompt, params));
      const TokenId expected = sampler.Sample(row.logits.data(), {&params, &none, 0, 6});
      ++total;
      if (row.token == expected) continue;
      if (++differ > 5) continue;
      std::fprintf(stderr, "temperature %g, top_k %d, top_p %g, min_p %g, seed %llu: %d, the CPU draws %d\n",
                   params.temperature, params.top_k, params.top_p, params.min_p,
                   static_cast<unsigned long long>(params.seed), row.token, expected);
    }
  }
  return nlohmann::ordered_json{{"config", args.Text("config")},
                                {"vocab", vocab},
                                {"parameter_sets", sets.size()},
                                {"draws", total},
                                {"differ", differ}};
}

}  // namespace

int RunSample(std::span<const std::string> args) {
  int exit_status = 0;
  const auto parsed = ParseOrHelp(kName, kSummary, args, kOptions, &exit_status);
  if (!parsed) return exit_status;
  const auto result = Measure(*parsed);
  if (!result.ok()) {
    std::fprintf(stderr, "megakernel-bench %s: %s\n", kName, std::string(result.status().message()).c_str());
    return 1;
  }
  const auto differ = (*result)["differ"].get<std::int64_t>();
  if (parsed->Flag("json")) {
    std::printf("%s\n", result->dump().c_str());
  } else {
    std::printf("vocabulary %d: %lld draws under %zu sets of parameters, %lld differ from the CPU's\n",
                (*result)["vocab"].get<int>(), static_cast<long long>((*result)["draws"].get<std::int64_t>()),
                (*result)["parameter_sets"].get<std::size_t>(), static_cast<long long>(differ));
  }
  return differ == 0 ? 0 : 1;
}

}  // namespace megakernel::bench
