// Chooses a token from logits by the order of operations of kernels/layout/sampling.h.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/cpu/kernel_table.h"
#include "engine/cpu/token_counts.h"
#include "engine/executor/executor.h"

namespace megakernel::cpu {

struct SampleRequest {
  const SamplingParams* params = nullptr;
  const TokenCounts* counts = nullptr;
  std::int32_t num_output = 0;  // tokens sampled before this one
  std::int32_t position = 0;    // of the token to sample
};

// Owned by one thread at a time: holds scratch of the size of the vocabulary. Equal inputs give equal results on every
// instruction set.
class Sampler {
 public:
  Sampler(const KernelTable& kernels, std::int32_t vocab);

  // Whether all logits are finite numbers, which the rest relies on.
  bool AllFinite(const float* logits) const;

  // Overwrites `logits`.
  TokenId Sample(float* logits, const SampleRequest& request);

  // Logprobs of `chosen` and of the `top` likeliest tokens under `logits` (unchanged by bias, penalties or
  // temperature), from the integer weights at temperature 1: log(weight) is replaced by the logit itself, so that
  // unlikely tokens keep their logprob.
  std::unique_ptr<Logprobs> LogprobsOf(const float* logits, TokenId chosen, std::int32_t top);

 private:
  void Adjust(float* logits, const SampleRequest& request);
  void SuppressStops(float* logits, const SampleRequest& request);
  TokenId Draw(const float* logits, float max, const SampleRequest& request);
  void KeepTop(const float* logits, std::int32_t count);
  void KeepTopP(const float* logits, float top_p);

  const KernelTable& kernels_;
  const std::int32_t vocab_;
  std::vector<std::uint64_t> weights_;    // [vocab]; 0 = removed
  std::vector<std::int32_t> candidates_;  // token ids under selection
  std::vector<float> kept_;               // [vocab] scratch of allowed tokens
};

}  // namespace megakernel::cpu
