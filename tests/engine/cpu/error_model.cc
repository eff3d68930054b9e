#include "tests/engine/cpu/error_model.h"

#include <algorithm>
#include <cmath>

namespace megakernel::test {
namespace {

using reference::Stage;

constexpr double kOneRounding = 0.42 * kFloatUnit;
constexpr double kChainRounding = 0.30 * kFloatUnit;
constexpr std::int64_t kBlock = 32;       // activations that share a scale
constexpr double kAttentionBlock = 64.0;  // positions of one chain

}  // namespace

RoundingErrors::RoundingErrors(const reference::Shape& shape, const Arithmetic& arithmetic, std::uint32_t seed)
    : shape_(shape), arithmetic_(arithmetic), random_(seed) {}

// Integers are summed exactly inside a block; a block then costs two fused additions.
double RoundingErrors::Terms(std::int64_t columns, bool integers) const {
  return static_cast<double>(integers ? 2 * columns / kBlock : columns);
}

void RoundingErrors::Elementwise(std::span<double> values, double relative) {
  for (double& value : values) value += relative * value * normal_(random_);
}

void RoundingErrors::Chain(std::span<double> sums, double terms) {
  Elementwise(sums, kChainRounding * std::sqrt(terms));
}

void RoundingErrors::Update(std::span<double> residual, double terms) {
  const double relative = kChainRounding * std::sqrt(terms);
  for (std::size_t i = 0; i < residual.size(); ++i) {
    residual[i] += relative * (residual[i] - residual_[i]) * normal_(random_);
  }
  Elementwise(residual, kOneRounding);
  residual_.assign(residual.begin(), residual.end());
}

void RoundingErrors::QuantizeBlocks(std::span<double> values, std::int64_t width) {
  for (std::size_t row = 0; row < values.size(); row += static_cast<std::size_t>(width)) {
    for (std::int64_t first = 0; first < width; first += kBlock) {
      const auto block = values.subspan(row + static_cast<std::size_t>(first),
                                        static_cast<std::size_t>(std::min(kBlock, width - first)));
      double largest = 0;
      for (const double value : block) largest = std::max(largest, std::abs(value));
      for (double& value : block) value += largest / 32767 / 2 * uniform_(random_);
    }
  }
}

void RoundingErrors::RoundToHalf(std::span<double> values) {
  for (double& value : values) {
    const double ulp = value == 0 ? 0 : std::ldexp(1.0, std::max(std::ilogb(value), -14) - 10);
    value += ulp / 2 * uniform_(random_);
  }
}

void RoundingErrors::operator()(Stage stage, std::span<double> values, std::int64_t width) {
  const bool integers = arithmetic_.integer_inputs;
  switch (stage) {
    case Stage::kEmbedding:
      residual_.assign(values.begin(), values.end());
      return;
    case Stage::kAttentionInput:
    case Stage::kFfnInput:
    case Stage::kFinal:
      Elementwise(values, std::sqrt(3.0) * kOneRounding);
      if (stage == Stage::kFinal ? arithmetic_.integer_head : integers) QuantizeBlocks(values, width);
      return;
    case Stage::kQuery:
    case Stage::kKey:
    case Stage::kValue:
      Chain(values, Terms(shape_.hidden, integers));
      if (stage != Stage::kValue) Elementwise(values, std::sqrt(3.0) * kOneRounding);
      if (stage == Stage::kKey) Chain(values, shape_.head_dim);
      if (stage != Stage::kQuery && arithmetic_.half_kv) RoundToHalf(values);
      return;
    case Stage::kAttention:
      Chain(values, kAttentionBlock);
      if (integers) QuantizeBlocks(values, width);
      return;
    case Stage::kAfterAttention:
      return Update(values, Terms(shape_.QueryWidth(), integers));
    case Stage::kActivation:  // of two products, an exponential, a division
      Chain(values, 2 * Terms(shape_.hidden, integers));
      Elementwise(values, std::sqrt(5.0) * kOneRounding);
      if (integers) QuantizeBlocks(values, width);
      return;
    case Stage::kAfterFfn:
      return Update(values, Terms(shape_.ffn, integers));
  }
}

void RoundingErrors::AddToLogits(std::span<double> logits) {
  Chain(logits, Terms(shape_.hidden, arithmetic_.integer_head));
}

std::vector<std::vector<double>> ReferenceLogits(const reference::ModelView& model,
                                                 std::span<const std::int32_t> tokens,
                                                 std::span<const std::int32_t> positions, const Arithmetic* arithmetic,
                                                 std::uint32_t seed, int threads) {
  reference::Forward<double> forward(model, {.threads = threads, .angles = reference::AngleRounding::kFloat});
  RoundingErrors errors(model.shape, arithmetic == nullptr ? Arithmetic{} : *arithmetic, seed);
  if (arithmetic != nullptr) {
    forward.set_perturbation([&errors](Stage stage, std::int32_t, std::int64_t, std::span<double> values,
                                       std::int64_t width) { errors(stage, values, width); });
  }
  forward.Step(tokens);
  std::vector<std::vector<double>> rows;
  for (const std::int32_t position : positions) {
    rows.push_back(forward.Logits(position));
    if (arithmetic != nullptr) errors.AddToLogits(rows.back());
  }
  return rows;
}

std::vector<double> RowErrors(const std::vector<std::vector<double>>& a, const std::vector<std::vector<double>>& b) {
  std::vector<double> errors;
  for (std::size_t row = 0; row < a.size(); ++row) {
    std::vector<double> difference = a[row];
    for (std::size_t i = 0; i < difference.size(); ++i) difference[i] -= b[row][i];
    errors.push_back(RootMeanSquare(difference));
  }
  return errors;
}

double RootMeanSquare(std::span<const double> values) {
  double squares = 0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares / static_cast<double>(values.size()));
}

double DeviationOfWorstPosition(std::span<const double> deviations) {
  double mean = 0, square = 0;
  for (const double deviation : deviations) {
    mean += std::log(deviation) / static_cast<double>(deviations.size());
    square += std::log(deviation) * std::log(deviation) / static_cast<double>(deviations.size());
  }
  return std::exp(mean + kWorstPosition * std::sqrt(std::max(square - mean * mean, 0.0)));
}

}  // namespace megakernel::test
