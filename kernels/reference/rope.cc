#include "kernels/reference/rope.h"

#include <cmath>
#include <numbers>

namespace megakernel::reference {

std::vector<double> RopeFrequencies(const Rope& rope, std::int32_t head_dim) {
  std::vector<double> frequencies(static_cast<std::size_t>(head_dim / 2));
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double plain = std::pow(rope.theta, -2.0 * static_cast<double>(i) / head_dim);
    frequencies[i] = plain;
    if (rope.kind == RopeKind::kLinear) frequencies[i] = plain / rope.factor;
    if (rope.kind == RopeKind::kLlama3) {
      // turns = how often the pair rotates within the original context
      const double turns = rope.original_context * plain / (2.0 * std::numbers::pi);
      const double smooth = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
      const double kept = smooth < 0.0 ? 0.0 : smooth > 1.0 ? 1.0 : smooth;
      frequencies[i] = (1.0 - kept) * plain / rope.factor + kept * plain;
    }
  }
  return frequencies;
}

template <class Real>
void Rotate(const std::vector<double>& frequencies, AngleRounding rounding, std::int64_t position, Real* head) {
  const std::size_t half = frequencies.size();
  for (std::size_t i = 0; i < half; ++i) {
    double angle = static_cast<double>(position) * frequencies[i];
    if (rounding == AngleRounding::kFloat) {
      const float product = static_cast<float>(position) * static_cast<float>(frequencies[i]);
      angle = product;
    }
    const auto cosine = static_cast<Real>(std::cos(angle));
    const auto sine = static_cast<Real>(std::sin(angle));
    const Real low = head[i];
    const Real high = head[i + half];
    head[i] = low * cosine - high * sine;
    head[i + half] = high * cosine + low * sine;
  }
}

template void Rotate(const std::vector<double>&, AngleRounding, std::int64_t, float*);
template void Rotate(const std::vector<double>&, AngleRounding, std::int64_t, double*);

}  // namespace megakernel::reference
