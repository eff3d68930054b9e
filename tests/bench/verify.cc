// megakernel-bench verify: logits of a backend against the reference interpreter or a dump.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/bench/arguments.h"
#include "tests/bench/logit_source.h"
#include "tests/bench/position_list.h"
#include "tests/bench/subcommand.h"
#include "tests/bench/verify_goldens.h"
#include "tests/engine/cpu/rope_check.h"

namespace megakernel::bench {
namespace {

constexpr char kName[] = "verify";
constexpr char kSummary[] =
    "Computes logits at chosen positions of random token sequences and compares them, position by position, with the\n"
    "reference interpreter in double or with a dump of the same positions. Exit status 1 when the largest relative\n"
    "error ||l - ref|| / ||ref|| exceeds the bar, or an argmax differs although the reference's gap between the two\n"
    "tokens is more than twice the largest absolute error.\n"
    "With --goldens: the CPU executor, or a megakernel-server, against transformers on 1, 7 and 300 random tokens and\n"
    "256 greedy ones; the bound follows from the executor's arithmetic and the model, the result is JSON.";
constexpr Option kOptions[] = {
    {"model", "PATH", "", "a model directory or file"},
    {"goldens", "PREFIX", "",
     "of tests/reference/parity_goldens.py; without --model the checkpoint they are of is made"},
    {"exact-tokens", "N", "512",
     "of each sequence of the goldens: the bound comes from the reference in double on these"},
    {"rope", "PREFIX", "", "instead: the CPU executor's rotary embedding, against tests/reference/rope_goldens.py"},
    {"backend", "NAME", "reference", "what computes the logits: see the list below"},
    {"precision", "NAME", "fp64", "of the backend (default, as served, or fp32 with --goldens)"},
    {"tokens", "N", "64", "length of a sequence"},
    {"sequences", "N", "1", "sequences; tokens of sequence i come from seed + i"},
    {"seed", "N", "1", "of the tokens"},
    {"positions", "LIST", "0,6,63", "such as 0,6,63 or 0-255,256-4095:16"},
    {"against", "PREFIX", "", "compare with this dump, and take tokens and positions from it"},
    {"dump", "PREFIX", "", "write PREFIX.json and PREFIX.f32 (tests/support/logit_dump.h)"},
    {"bar", "X", "0.005", "largest relative error that passes"},
    {"threads", "N", "0", "of the reference; 0: one a processor"},
    {"kv-layout", "N", "1", "of the GPU's KV pages: 0 token-major, 1 head-major"},
    {"float-angles", nullptr, nullptr, "the reference rounds RoPE angles to float, as transformers does"},
    {"json", nullptr, nullptr, "print the result as JSON"},
};

constexpr LogitBackend kBackends[] = {
    {"reference", "fp64, fp32", MakeReferenceSource},
#if defined(MEGAKERNEL_CUDA)
    {"cuda", "default", MakeCudaSource},
#endif
};

absl::StatusOr<std::vector<test::LogitSequence>> Sequences(const Arguments& args, std::int32_t vocab) {
  const auto tokens = args.Int("tokens", 1, 1 << 20);
  const auto count = args.Int("sequences", 1, 4096);
  const auto seed = args.Int("seed", 0, INT64_MAX - 4096);
  for (const auto* value : {&tokens, &count, &seed}) {
    if (!value->ok()) return value->status();
  }
  auto positions = ParsePositions(args.Text("positions"), static_cast<std::int32_t>(*tokens));
  if (!positions.ok()) return positions.status();
  std::vector<test::LogitSequence> sequences;
  for (std::int64_t i = 0; i < *count; ++i) {
    sequences.push_back(
        {test::RandomTokens(static_cast<std::uint64_t>(*seed + i), static_cast<std::int32_t>(*tokens), vocab),
         *positions});
  }
  return sequences;
}

nlohmann::ordered_json ToJson(const test::LogitErrors& errors, double bar, bool pass) {
  return {{"positions", errors.num_rows},
          {"relative_error_max", errors.relative_max},
          {"relative_error_mean", errors.relative_mean},
          {"worst_row", errors.worst_row},
          {"absolute_error_max", errors.absolute_max},
          {"argmax_differs", errors.argmax_differs},
          {"argmax_differs_beyond_margin", errors.argmax_differs_beyond_margin},
          {"bar", bar},
          {"pass", pass}};
}

// One run: what was asked for and what it gave.
class Verification {
 public:
  explicit Verification(const Arguments& args) : args_(args) {}
  absl::StatusOr<bool> Run();

 private:
  absl::Status Prepare();
  absl::StatusOr<std::vector<float>> Compute(const std::string& backend, const std::string& precision);
  bool Report(const test::LogitErrors& errors, double bar) const;

  const Arguments& args_;
  std::unique_ptr<Model> model_;
  test::LogitDump reference_;  // rows are empty until known
  test::LogitDump result_;
  double seconds_ = 0.0;
};

absl::Status Verification::Prepare() {
  if (args_.Text("model").empty()) return absl::InvalidArgumentError("--model is missing");
  auto model = LoadModel(args_.Text("model"));
  if (!model.ok()) return model.status();
  model_ = *std::move(model);
  result_.vocab = model_->config().vocab;
  if (!args_.Text("against").empty()) {
    auto dump = test::ReadLogitDump(args_.Text("against"));
    if (!dump.ok()) return dump.status();
    if (dump->vocab != result_.vocab) return absl::InvalidArgumentError("the dump's vocabulary is not the model's");
    for (const test::LogitSequence& sequence : dump->sequences) {
      for (const std::int32_t token : sequence.tokens) {
        if (token < 0 || token >= dump->vocab) return absl::InvalidArgumentError("the dump holds a bad token");
      }
    }
    reference_ = *std::move(dump);
    result_.sequences = reference_.sequences;
    return absl::OkStatus();
  }
  auto sequences = Sequences(args_, result_.vocab);
  if (!sequences.ok()) return sequences.status();
  result_.sequences = *std::move(sequences);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> Verification::Compute(const std::string& backend, const std::string& precision) {
  const auto threads = args_.Int("threads", 0, 1024);
  if (!threads.ok()) return threads.status();
  LogitSourceOptions options;
  options.precision = precision;
  options.threads = *threads > 0 ? static_cast<int>(*threads) : static_cast<int>(std::thread::hardware_concurrency());
  options.float_angles = args_.Flag("float-angles");
  const auto kv_layout = args_.Int("kv-layout", 0, 1);
  if (!kv_layout.ok()) return kv_layout.status();
  options.kv_layout = static_cast<int>(*kv_layout);
  for (const LogitBackend& candidate : kBackends) {
    if (backend != candidate.name) continue;
    auto source = candidate.make(*model_, options);
    if (!source.ok()) return source.status();
    return (*source)->Rows(result_.sequences);
  }
  return absl::InvalidArgumentError(absl::StrCat("--backend \"", backend, "\" is not there"));
}

bool Verification::Report(const test::LogitErrors& errors, double bar) const {
  const bool pass = errors.relative_max <= bar && errors.argmax_differs_beyond_margin == 0;
  if (args_.Flag("json")) {
    nlohmann::ordered_json json = ToJson(errors, bar, pass);
    json["source"] = result_.source;
    json["reference"] = reference_.source;
    json["seconds"] = seconds_;
    std::printf("%s\n", json.dump().c_str());
  } else {
    std::printf(
        "%s against %s: %lld positions, relative error max %.3e (row %lld) mean %.3e, absolute %.3e, "
        "argmax differs %lld (beyond margin %lld): %s\n",
        result_.source.c_str(), reference_.source.c_str(), static_cast<long long>(errors.num_rows), errors.relative_max,
        static_cast<long long>(errors.worst_row), errors.relative_mean, errors.absolute_max,
        static_cast<long long>(errors.argmax_differs), static_cast<long long>(errors.argmax_differs_beyond_margin),
        pass ? "pass" : "FAIL");
  }
  return pass;
}

absl::StatusOr<bool> Verification::Run() {
  const auto bar = args_.Number("bar");
  if (!bar.ok()) return bar.status();
  if (const absl::Status prepared = Prepare(); !prepared.ok()) return prepared;
  const std::string& backend = args_.Text("backend");
  const std::string& precision = args_.Text("precision");
  result_.source = absl::StrCat(backend, " ", precision);

  const auto started = std::chrono::steady_clock::now();
  auto rows = Compute(backend, precision);
  if (!rows.ok()) return rows.status();
  seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  result_.rows = *std::move(rows);
  if (!args_.Text("dump").empty()) {
    if (const absl::Status written = test::WriteLogitDump(result_, args_.Text("dump")); !written.ok()) return written;
  }
  if (args_.Text("against").empty() && backend == "reference" && precision == "fp64") {
    std::printf("%s: %lld positions in %.2f s\n", result_.source.c_str(), static_cast<long long>(result_.NumRows()),
                seconds_);
    return true;
  }
  if (args_.Text("against").empty()) {
    auto reference = Compute("reference", "fp64");
    if (!reference.ok()) return reference.status();
    reference_.source = "reference fp64";
    reference_.rows = *std::move(reference);
  }
  return Report(test::CompareLogits(reference_.rows, result_.rows, result_.vocab), *bar);
}

absl::StatusOr<bool> RunGoldens(const Arguments& args) {
  const auto threads = args.Int("threads", 0, 1024);
  const auto exact_tokens = args.Int("exact-tokens", 32, 512);
  for (const auto* value : {&threads, &exact_tokens}) {
    if (!value->ok()) return value->status();
  }
  GoldensOptions options;
  options.exact_tokens = static_cast<int>(*exact_tokens);
  options.goldens = args.Text("goldens");
  options.model = args.Text("model");
  options.backend = args.Text("backend");
  options.precision = args.Text("precision");
  options.threads = *threads > 0 ? static_cast<int>(*threads) : static_cast<int>(std::thread::hardware_concurrency());
  const auto result = VerifyGoldens(options);
  if (!result.ok()) return result.status();
  std::printf("%s\n", result->dump(1).c_str());
  return result->at("pass").get<bool>();
}

absl::StatusOr<bool> RunRope(const std::string& prefix) {
  const auto report = test::CheckRope(prefix);
  if (!report.ok()) return report.status();
  const nlohmann::ordered_json json = {{"goldens", prefix},
                                       {"source", report->source},
                                       {"positions", report->positions},
                                       {"last_position", report->last},
                                       {"values", report->values},
                                       {"table_error_max", report->table_error},
                                       {"head_error_max", report->head_error},
                                       {"largest_share_of_bound", report->share},
                                       {"pass", report->pass()}};
  std::printf("%s\n", json.dump(1).c_str());
  return report->pass();
}

absl::StatusOr<bool> RunAny(const Arguments& args) {
  if (!args.Text("rope").empty()) return RunRope(args.Text("rope"));
  return args.Text("goldens").empty() ? Verification(args).Run() : RunGoldens(args);
}

}  // namespace

int RunVerify(std::span<const std::string> args) {
  int exit_status = 0;
  const auto parsed = ParseOrHelp(kName, kSummary, args, kOptions, &exit_status);
  if (!parsed) {
    if (exit_status == 0) {
      std::printf("\nBackends:\n");
      for (const LogitBackend& backend : kBackends) std::printf("  %-12s %s\n", backend.name, backend.precisions);
      std::printf("With --goldens:\n  cpu, server  default, fp32; programs are found in $MEGAKERNEL_BIN\n");
    }
    return exit_status;
  }
  const auto pass = RunAny(*parsed);
  if (!pass.ok()) {
    std::fprintf(stderr, "megakernel-bench %s: %s\n", kName, std::string(pass.status().message()).c_str());
    return 1;
  }
  return *pass ? 0 : 1;
}

}  // namespace megakernel::bench
