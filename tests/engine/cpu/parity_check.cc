#include "tests/engine/cpu/parity_check.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "absl/strings/str_format.h"
#include "engine/cpu/processor_count.h"
#include "tests/engine/cpu/error_model.h"
#include "tests/engine/cpu/evaluator.h"
#include "tests/support/reference_model.h"

namespace megakernel::test {
namespace {

// Of each sequence that has so many: evenly spread, the first and the last among them.
constexpr std::int32_t kExactPositions = 24;

std::vector<std::int32_t> ExactPositions(std::int32_t length) {
  std::vector<std::int32_t> positions;
  if (length < kExactPositions) return positions;
  for (std::int32_t i = 0; i < kExactPositions; ++i) positions.push_back(i * (length - 1) / (kExactPositions - 1));
  return positions;
}

Arithmetic ArithmeticOf(const Model& model, bool fp32) {
  const ModelWeights& weights = model.weights();
  return {.integer_inputs = !fp32 && BlockElements(weights.layers[0].wq.type) > 1,
          .integer_head = !fp32 && BlockElements(weights.lm_head.type) > 1,
          .half_kv = !fp32};
}

class Check {
 public:
  Check(const Model& model, bool fp32)
      : vocab_(model.config().vocab),
        arithmetic_(ArithmeticOf(model, fp32)),
        threads_(cpu::UsableProcessors()),
        reference_(model, threads_),
        evaluator_(model, {.fp32 = fp32, .fp32_kv = fp32}) {}

  void Run(const ParitySequence& sequence, std::int32_t exact_tokens) {
    const auto length = std::min(exact_tokens, static_cast<std::int32_t>(sequence.tokens.size()));
    const std::vector<std::int32_t> positions = ExactPositions(length);
    std::vector<std::vector<double>> logits;
    evaluator_.Run(sequence.tokens, 0, [&](std::int32_t position, const float* row) {
      if (position >= sequence.first) {
        report_.errors.Add(sequence.rows[position - sequence.first], {row, static_cast<std::size_t>(vocab_)});
      }
      if (logits.size() < positions.size() && position == positions[logits.size()]) {
        logits.emplace_back(row, row + vocab_);
      }
    });
    if (positions.empty()) return;
    const auto tokens = std::span(sequence.tokens).first(static_cast<std::size_t>(length));
    const auto exact = ReferenceLogits(reference_.view(), tokens, positions, nullptr, 0, threads_);
    const auto drawn = ReferenceLogits(reference_.view(), tokens, positions, &arithmetic_, 1, threads_);
    for (const double error : RowErrors(logits, exact)) exact_errors_.push_back(error);
    for (const double error : RowErrors(drawn, exact)) estimates_.push_back(error);
  }

  ParityReport Finish(bool fp32) {
    report_.exact_error = RootMeanSquare(exact_errors_);
    report_.estimated = RootMeanSquare(estimates_);
    report_.num_exact = static_cast<std::int64_t>(estimates_.size());
    // The goldens are float32 arithmetic too: two errors of the same size where the executor's is.
    report_.bound = kLargestOfARow * DeviationOfWorstPosition(estimates_) * (fp32 ? std::sqrt(2.0) : 1.0);
    return std::move(report_);
  }

 private:
  const std::int32_t vocab_;
  const Arithmetic arithmetic_;
  const int threads_;
  const ReferenceModel reference_;
  Evaluator evaluator_;
  ParityReport report_;
  std::vector<double> exact_errors_, estimates_;  // deviations of positions
};

}  // namespace

bool ParityReport::pass() const {
  return errors.num_rows() > 0 && errors.absolute_max() <= bound && ratio() <= kSpread && ratio() >= 1 / kSpread &&
         errors.argmax_differs_beyond_margin() == 0;
}

std::string Describe(const ParityReport& report) {
  return absl::StrFormat(
      "%d rows, %d logits: largest error %.2e (bound %.2e), root mean square %.2e; other argmaxes %d (widest gap %.2e, "
      "beyond margin %d); against exact logits at %d positions: %.2e, estimated %.2e, ratio %.2f",
      report.errors.num_rows(), report.errors.num_logits(), report.errors.absolute_max(), report.bound,
      report.errors.root_mean_square(), report.errors.argmax_differs(), report.errors.widest_gap(),
      report.errors.argmax_differs_beyond_margin(), report.num_exact, report.exact_error, report.estimated,
      report.ratio());
}

ParityReport CheckParity(const Model& model, const ParityGoldens& goldens, bool fp32, std::int32_t exact_tokens) {
  Check check(model, fp32);
  for (const ParitySequence& sequence : goldens.sequences) check.Run(sequence, exact_tokens);
  return check.Finish(fp32);
}

}  // namespace megakernel::test
