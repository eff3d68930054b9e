#include "engine/cpu/rope_table.h"

#include <cmath>
#include <numbers>

namespace megakernel::cpu {
namespace {

float Scaled(const ModelConfig& config, float frequency) {
  const auto factor = static_cast<float>(config.rope_factor);
  if (config.rope_scaling == RopeScaling::kLinear) return frequency / factor;
  if (config.rope_scaling != RopeScaling::kLlama3) return frequency;
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double original = config.rope_original_context;
  if (wavelength < original / config.rope_high_freq_factor) return frequency;
  if (wavelength > original / config.rope_low_freq_factor) return frequency / factor;
  const double smooth = (original / wavelength - config.rope_low_freq_factor) /
                        (config.rope_high_freq_factor - config.rope_low_freq_factor);
  return static_cast<float>((1.0 - smooth) * frequency / config.rope_factor + smooth * frequency);
}

}  // namespace

RopeTable::RopeTable(const ModelConfig& config, std::int32_t num_positions) : half_(config.head_dim / 2) {
  std::vector<float> frequencies(static_cast<std::size_t>(half_));
  for (std::int32_t i = 0; i < half_; ++i) {
    const double exponent = 2.0 * i / config.head_dim;
    frequencies[i] = Scaled(config, static_cast<float>(1.0 / std::pow(config.rope_theta, exponent)));
  }
  cosines_.resize(static_cast<std::size_t>(num_positions) * half_);
  sines_.resize(cosines_.size());
  for (std::int32_t position = 0; position < num_positions; ++position) {
    for (std::int32_t i = 0; i < half_; ++i) {
      const std::size_t index = static_cast<std::size_t>(position) * half_ + i;
      const float angle = static_cast<float>(position) * frequencies[i];
      cosines_[index] = static_cast<float>(std::cos(static_cast<double>(angle)));
      sines_[index] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  }
}

}  // namespace megakernel::cpu
