#include <algorithm>
#include <span>

#include "absl/strings/str_cat.h"
#include "kernels/reference/forward.h"
#include "tests/bench/logit_source.h"
#include "tests/support/reference_model.h"

namespace megakernel::bench {
namespace {

// Rows of a step: the stored weights are converted once for all of them.
constexpr std::size_t kChunk = 64;

template <class Real>
class ReferenceSource : public LogitSource {
 public:
  ReferenceSource(const Model& model, const reference::ForwardOptions& options) : model_(model), options_(options) {}

  absl::StatusOr<std::vector<float>> Rows(const std::vector<test::LogitSequence>& sequences) override {
    std::vector<float> rows;
    for (const test::LogitSequence& sequence : sequences) Append(sequence, rows);
    return rows;
  }

 private:
  void Append(const test::LogitSequence& sequence, std::vector<float>& rows) const {
    reference::Forward<Real> forward(model_.view(), options_);
    const auto needed = static_cast<std::size_t>(sequence.positions.back()) + 1;
    for (std::size_t first = 0; first < needed; first += kChunk) {
      const std::size_t count = std::min(kChunk, needed - first);
      forward.Step(std::span(sequence.tokens).subspan(first, count));
      for (const std::int32_t position : sequence.positions) {
        const std::int64_t row = position - static_cast<std::int64_t>(first);
        if (row < 0 || row >= static_cast<std::int64_t>(count)) continue;
        for (const Real value : forward.Logits(row)) rows.push_back(static_cast<float>(value));
      }
    }
  }

  test::ReferenceModel model_;
  reference::ForwardOptions options_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LogitSource>> MakeReferenceSource(const Model& model,
                                                                 const LogitSourceOptions& options) {
  const reference::ForwardOptions forward = {
      .threads = options.threads,
      .angles = options.float_angles ? reference::AngleRounding::kFloat : reference::AngleRounding::kExact};
  std::unique_ptr<LogitSource> source;
  if (options.precision == "fp64") source = std::make_unique<ReferenceSource<double>>(model, forward);
  if (options.precision == "fp32") source = std::make_unique<ReferenceSource<float>>(model, forward);
  if (source == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("--precision is \"", options.precision, "\"; the reference has fp64 and fp32"));
  }
  return source;
}

}  // namespace megakernel::bench
