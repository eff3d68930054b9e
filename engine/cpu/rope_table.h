// Cosines and sines of the rotary embedding.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/model/model.h"

namespace megakernel::cpu {

// Immutable after construction.
class RopeTable {
 public:
  // Positions [0, num_positions). Frequencies and angles are rounded to fp32 as in transformers
  // (modeling_rope_utils.py: default, linear, llama3), so that long contexts agree with it.
  RopeTable(const ModelConfig& config, std::int32_t num_positions);

  // head_dim / 2 values.
  const float* Cosines(std::int32_t position) const { return cosines_.data() + std::int64_t{position} * half_; }
  const float* Sines(std::int32_t position) const { return sines_.data() + std::int64_t{position} * half_; }

 private:
  std::int32_t half_;
  std::vector<float> cosines_;
  std::vector<float> sines_;
};

}  // namespace megakernel::cpu
