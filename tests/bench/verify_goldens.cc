#include "tests/bench/verify_goldens.h"

#include <chrono>
#include <fstream>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/isa.h"
#include "engine/model/model.h"
#include "tests/bench/preset_model.h"
#include "tests/engine/cpu/error_model.h"
#include "tests/engine/cpu/parity_check.h"
#include "tests/support/checkpoint.h"
#include "tests/support/temp_checkpoint.h"

namespace megakernel::bench {
namespace {

constexpr int kShards = 3;
constexpr std::size_t kLongest = 512;  // tokens of a sequence

std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (absl::StartsWith(line, "model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

absl::Status CheckSizes(const Model& model, const test::ParityGoldens& goldens) {
  if (model.config().vocab != goldens.vocab) {
    return absl::InvalidArgumentError("the goldens' vocabulary is not the model's");
  }
  for (const test::ParitySequence& sequence : goldens.sequences) {
    if (sequence.tokens.size() > kLongest) {
      return absl::InvalidArgumentError(absl::StrCat("a sequence is longer than ", kLongest, " tokens"));
    }
  }
  return absl::OkStatus();
}

nlohmann::ordered_json ToJson(const test::ParityReport& report) {
  return {{"rows", report.errors.num_rows()},
          {"logits", report.errors.num_logits()},
          {"absolute_error_max", report.errors.absolute_max()},
          {"bound", report.bound},
          {"root_mean_square_error", report.errors.root_mean_square()},
          {"argmax_differs", report.errors.argmax_differs()},
          {"argmax_widest_gap", report.errors.widest_gap()},
          {"argmax_differs_beyond_margin", report.errors.argmax_differs_beyond_margin()},
          {"exact_positions", report.num_exact},
          {"exact_error", report.exact_error},
          {"estimated_error", report.estimated},
          {"ratio", report.ratio()},
          {"ratio_limit", test::kSpread}};
}

}  // namespace

absl::StatusOr<nlohmann::ordered_json> VerifyGoldens(const GoldensOptions& options) {
  if (options.precision != "default" && options.precision != "fp32") {
    return absl::InvalidArgumentError(
        absl::StrCat("--precision is \"", options.precision, "\"; with --goldens default and fp32 are possible"));
  }
  if (options.backend != "cpu" && options.backend != "server") {
    return absl::InvalidArgumentError(
        absl::StrCat("--backend is \"", options.backend, "\"; with --goldens cpu and server are possible"));
  }
  MK_ASSIGN_OR_RETURN(const test::ParityGoldens goldens, test::ReadParityGoldens(options.goldens));
  const auto started = std::chrono::steady_clock::now();
  std::unique_ptr<test::TempDirectory> directory;
  std::string path = options.model;
  if (path.empty()) {
    if (goldens.config.empty()) return absl::InvalidArgumentError("these goldens are of a file: name it with --model");
    directory = std::make_unique<test::TempDirectory>();
    test::CheckpointOptions checkpoint;
    MK_ASSIGN_OR_RETURN(checkpoint.config_text, ConfigText(goldens.config));
    checkpoint.seed = goldens.seed;
    checkpoint.max_shards = kShards;
    checkpoint.threads = options.threads;
    MK_RETURN_IF_ERROR(test::WriteCheckpoint(checkpoint, directory->path()).status());
    path = directory->path();
  }
  test::ParityReport report;
  {
    MK_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, LoadModel(path));
    MK_RETURN_IF_ERROR(CheckSizes(*model, goldens));
    report = test::CheckParity(*model, goldens, options.precision == "fp32", options.exact_tokens);
  }
  nlohmann::ordered_json result = {{"goldens", options.goldens},
                                   {"source", goldens.source},
                                   {"processor", ProcessorName()},
                                   {"backend", options.backend},
                                   {"precision", options.precision}};
  result["exact_tokens"] = options.exact_tokens;
  result.update(ToJson(report));
  result["pass"] = report.pass();
  if (options.backend == "server") {
    MK_RETURN_IF_ERROR(VerifyServer(path, goldens, report.bound, options.precision, result));
  }
  result["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return result;
}

}  // namespace megakernel::bench
