#include "engine/cpu/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/layout/sampling.h"

namespace megakernel::cpu {
namespace {

constexpr float kRemoved = -std::numeric_limits<float>::infinity();

// Likelier first: larger logits, ties to the lower id.
struct Likelier {
  const float* logits;
  bool operator()(std::int32_t a, std::int32_t b) const {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  }
};

}  // namespace

Sampler::Sampler(const KernelTable& kernels, std::int32_t vocab)
    : kernels_(kernels), vocab_(vocab), weights_(static_cast<std::size_t>(vocab)) {}

bool Sampler::AllFinite(const float* logits) const {
  bool finite = true;
  for (std::int32_t i = 0; i < vocab_; ++i) finite &= std::abs(logits[i]) <= std::numeric_limits<float>::max();
  return finite;
}

TokenId Sampler::Sample(float* logits, const SampleRequest& request) {
  Adjust(logits, request);
  const TokenId likeliest = kernels_.arg_max(logits, vocab_);
  if (request.params->temperature == 0.0f || request.params->top_k == 1) return likeliest;
  return Draw(logits, logits[likeliest], request);
}

// Steps 1 to 4.
void Sampler::Adjust(float* logits, const SampleRequest& request) {
  const SamplingParams& params = *request.params;
  for (const auto& [token, bias] : params.logit_bias) logits[token] += bias;
  if (!params.allowed_tokens.empty()) {
    kept_.assign(static_cast<std::size_t>(vocab_), kRemoved);
    for (TokenId token : params.allowed_tokens) kept_[token] = logits[token];
    std::copy(kept_.begin(), kept_.end(), logits);
  }
  for (const auto& [token, count] : request.counts->counts()) {
    logits[token] = layout::Penalize(logits[token], true, count, params.repetition_penalty, params.presence_penalty,
                                     params.frequency_penalty);
  }
  if (request.num_output < params.min_tokens) SuppressStops(logits, request);
}

void Sampler::SuppressStops(float* logits, const SampleRequest& request) {
  std::vector<std::pair<TokenId, float>> removed;
  for (TokenId token : request.params->stop_tokens) {
    if (logits[token] == kRemoved) continue;
    removed.emplace_back(token, logits[token]);
    logits[token] = kRemoved;
  }
  if (logits[kernels_.arg_max(logits, vocab_)] != kRemoved) return;
  for (const auto& [token, logit] : removed) logits[token] = logit;
}

// Steps 5 to 9.
TokenId Sampler::Draw(const float* logits, float max, const SampleRequest& request) {
  const SamplingParams& params = *request.params;
  std::uint64_t total = kernels_.exp_weights(logits, vocab_, max, params.temperature, weights_.data());
  if (params.top_k > 0 && params.top_k < vocab_) KeepTop(logits, params.top_k);
  if (params.top_p < 1.0f) KeepTopP(logits, params.top_p);
  const std::uint64_t largest = std::uint64_t{1} << layout::kWeightBits;  // of the largest logit
  if (params.min_p > 0.0f) {
    const std::uint64_t least = layout::FractionOf(params.min_p, largest);
    for (std::uint64_t& weight : weights_) weight = weight >= least ? weight : 0;
  }
  total = std::accumulate(weights_.begin(), weights_.end(), std::uint64_t{0});
  std::uint64_t left = layout::Draw(params.seed, static_cast<std::uint32_t>(request.position), total);
  for (std::int32_t token = 0; token < vocab_; ++token) {
    if (left < weights_[token]) return token;
    left -= weights_[token];
  }
  return kernels_.arg_max(logits, vocab_);  // unreachable: Draw is below the total
}

void Sampler::KeepTop(const float* logits, std::int32_t count) {
  candidates_.resize(static_cast<std::size_t>(vocab_));
  std::iota(candidates_.begin(), candidates_.end(), 0);
  std::nth_element(candidates_.begin(), candidates_.begin() + count, candidates_.end(), Likelier{logits});
  for (auto it = candidates_.begin() + count; it != candidates_.end(); ++it) weights_[*it] = 0;
}

// Sorts no more than it needs: the first 256, then four times as many.
void Sampler::KeepTopP(const float* logits, float top_p) {
  candidates_.clear();
  std::uint64_t total = 0;
  for (std::int32_t token = 0; token < vocab_; ++token) {
    if (weights_[token] == 0) continue;
    candidates_.push_back(token);
    total += weights_[token];
  }
  const std::uint64_t wanted = layout::FractionOf(top_p, total);
  std::uint64_t sum = 0;
  std::size_t kept = 0;
  for (std::size_t sorted = 0, next = 256; sum < wanted || kept == 0; next *= 4) {
    const auto begin = candidates_.begin() + static_cast<std::ptrdiff_t>(sorted);
    next = std::min(next, candidates_.size());
    const auto end = candidates_.begin() + static_cast<std::ptrdiff_t>(next);
    std::partial_sort(begin, end, candidates_.end(), Likelier{logits});
    sorted = next;
    for (; kept < sorted && (sum < wanted || kept == 0); ++kept) sum += weights_[candidates_[kept]];
    if (sorted == candidates_.size()) break;
  }
  for (std::size_t i = kept; i < candidates_.size(); ++i) weights_[candidates_[i]] = 0;
}

std::unique_ptr<Logprobs> Sampler::LogprobsOf(const float* logits, TokenId chosen, std::int32_t top) {
  const float max = logits[kernels_.arg_max(logits, vocab_)];
  const std::uint64_t total = kernels_.exp_weights(logits, vocab_, max, 1.0f, weights_.data());
  const double log_total = std::log(std::ldexp(static_cast<double>(total), -layout::kWeightBits));
  const auto logprob = [&](TokenId token) {
    return static_cast<float>(static_cast<double>(logits[token]) - max - log_total);
  };
  auto result = std::make_unique<Logprobs>();
  std::int32_t rank = 0;
  for (std::int32_t token = 0; token < vocab_; ++token) rank += Likelier{logits}(token, chosen);
  result->chosen = {chosen, logprob(chosen), rank};
  const std::int32_t count = std::min(top, vocab_);
  if (count <= 0) return result;
  candidates_.resize(static_cast<std::size_t>(vocab_));
  std::iota(candidates_.begin(), candidates_.end(), 0);
  std::partial_sort(candidates_.begin(), candidates_.begin() + count, candidates_.end(), Likelier{logits});
  for (std::int32_t i = 0; i < count; ++i) result->top.push_back({candidates_[i], logprob(candidates_[i]), i});
  return result;
}

}  // namespace megakernel::cpu
