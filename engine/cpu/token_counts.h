// Which tokens a sequence holds and how often its output does: what penalties ask.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>

#include "engine/executor/executor.h"

namespace megakernel::cpu {

class TokenCounts {
 public:
  // Nothing is counted when `params` has no penalty.
  void Reset(std::span<const TokenId> tokens, std::int32_t output_start, const SamplingParams& params) {
    counts_.clear();
    active_ = params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f || params.frequency_penalty != 0.0f;
    if (!active_) return;
    for (std::size_t i = 0; i < tokens.size(); ++i) counts_[tokens[i]] += static_cast<std::int32_t>(i) >= output_start;
  }
  void AddOutput(TokenId token) {
    if (active_) ++counts_[token];
  }

  // Token to occurrences in the output; 0 for a token of the prompt only.
  const std::unordered_map<TokenId, std::int32_t>& counts() const { return counts_; }

 private:
  bool active_ = false;
  std::unordered_map<TokenId, std::int32_t> counts_;
};

}  // namespace megakernel::cpu
