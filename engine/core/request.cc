#include "engine/core/request.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace megakernel {
namespace {

absl::Status CheckRange(const char* field, double value, double low, double high) {
  if (std::isfinite(value) && value >= low && value <= high) return absl::OkStatus();
  return FieldError(field, absl::StrCat(field, " is ", value, ", must be in [", low, ", ", high, "]"));
}

// As CheckRange, `low` itself excluded.
absl::Status CheckAbove(const char* field, double value, double low, double high) {
  if (std::isfinite(value) && value > low && value <= high) return absl::OkStatus();
  return FieldError(field, absl::StrCat(field, " is ", value, ", must be in (", low, ", ", high, "]"));
}

absl::Status CheckCount(const char* field, std::size_t count, std::size_t limit) {
  if (count <= limit) return absl::OkStatus();
  return FieldError(field, absl::StrCat(field, " has ", count, " entries, at most ", limit, " are allowed"));
}

absl::Status CheckToken(const char* field, TokenId token, std::int32_t vocab) {
  if (token >= 0 && token < vocab) return absl::OkStatus();
  return FieldError(field, absl::StrCat(field, " has token ", token, ", must be in [0, ", vocab, ")"));
}

absl::Status CheckTokens(const char* field, const std::vector<TokenId>& tokens, std::int32_t vocab) {
  for (const TokenId token : tokens) MK_RETURN_IF_ERROR(CheckToken(field, token, vocab));
  return absl::OkStatus();
}

absl::Status CheckFeature(const char* field, bool used, Feature feature, const ExecutorInfo& info) {
  if (!used || info.Has(feature)) return absl::OkStatus();
  return FieldError(absl::StatusCode::kUnimplemented, ErrorReason::kUnsupported, field,
                    absl::StrCat(field, " is not offered by ", info.device));
}

absl::Status CheckSamplingRanges(const SamplingParams& s, std::int32_t vocab) {
  MK_RETURN_IF_ERROR(CheckRange("sampling.temperature", s.temperature, 0, 100));
  MK_RETURN_IF_ERROR(CheckRange("sampling.top_k", s.top_k, 0, vocab));
  MK_RETURN_IF_ERROR(CheckAbove("sampling.top_p", s.top_p, 0, 1));
  MK_RETURN_IF_ERROR(CheckRange("sampling.min_p", s.min_p, 0, 1));
  MK_RETURN_IF_ERROR(CheckAbove("sampling.repetition_penalty", s.repetition_penalty, 0, 10));
  MK_RETURN_IF_ERROR(CheckRange("sampling.presence_penalty", s.presence_penalty, -10, 10));
  MK_RETURN_IF_ERROR(CheckRange("sampling.frequency_penalty", s.frequency_penalty, -10, 10));
  MK_RETURN_IF_ERROR(CheckCount("sampling.logit_bias", s.logit_bias.size(), kMaxLogitBias));
  for (const auto& [token, bias] : s.logit_bias) {
    MK_RETURN_IF_ERROR(CheckToken("sampling.logit_bias", token, vocab));
    MK_RETURN_IF_ERROR(CheckRange("sampling.logit_bias", bias, -100, 100));
  }
  MK_RETURN_IF_ERROR(CheckCount("sampling.allowed_token_ids", s.allowed_tokens.size(), kMaxAllowedTokens));
  MK_RETURN_IF_ERROR(CheckTokens("sampling.allowed_token_ids", s.allowed_tokens, vocab));
  MK_RETURN_IF_ERROR(CheckCount("stopping.stop_token_ids", s.stop_tokens.size(), kMaxStopTokens));
  return CheckTokens("stopping.stop_token_ids", s.stop_tokens, vocab);
}

absl::Status CheckFeatures(const SamplingParams& s, const ExecutorInfo& info) {
  // Greedy choice needs no feature; drawing at the model's own temperature 1 is kTemperature as well.
  MK_RETURN_IF_ERROR(CheckFeature("sampling.temperature", s.temperature != 0, Feature::kTemperature, info));
  MK_RETURN_IF_ERROR(CheckFeature("sampling.top_k", s.top_k != 0, Feature::kTopK, info));
  MK_RETURN_IF_ERROR(CheckFeature("sampling.top_p", s.top_p != 1, Feature::kTopP, info));
  MK_RETURN_IF_ERROR(CheckFeature("sampling.min_p", s.min_p != 0, Feature::kMinP, info));
  MK_RETURN_IF_ERROR(
      CheckFeature("sampling.repetition_penalty", s.repetition_penalty != 1, Feature::kRepetitionPenalty, info));
  MK_RETURN_IF_ERROR(
      CheckFeature("sampling.presence_penalty", s.presence_penalty != 0, Feature::kPresencePenalty, info));
  MK_RETURN_IF_ERROR(
      CheckFeature("sampling.frequency_penalty", s.frequency_penalty != 0, Feature::kFrequencyPenalty, info));
  MK_RETURN_IF_ERROR(CheckFeature("sampling.logit_bias", !s.logit_bias.empty(), Feature::kLogitBias, info));
  MK_RETURN_IF_ERROR(
      CheckFeature("sampling.allowed_token_ids", !s.allowed_tokens.empty(), Feature::kAllowedTokens, info));
  MK_RETURN_IF_ERROR(CheckFeature("stopping.min_tokens", s.min_tokens > 0, Feature::kMinTokens, info));
  MK_RETURN_IF_ERROR(CheckFeature("output.logprobs", s.logprobs >= 0, Feature::kLogprobs, info));
  return CheckFeature("output.prompt_logprobs", s.prompt_logprobs >= 0, Feature::kPromptLogprobs, info);
}

absl::Status CheckStops(const GenerateRequest& request) {
  MK_RETURN_IF_ERROR(CheckCount("stopping.stop", request.stop_strings.size(), kMaxStopStrings));
  for (const std::string& stop : request.stop_strings) {
    MK_RETURN_IF_ERROR(CheckRange("stopping.stop", static_cast<double>(stop.size()), 1, kMaxStopStringBytes));
  }
  return absl::OkStatus();
}

absl::Status CheckLengths(const GenerateRequest& request, std::int32_t max_context) {
  const std::int32_t max_tokens = request.max_tokens.value_or(1);
  // Too many is the context's matter, below: that error has both numbers.
  MK_RETURN_IF_ERROR(CheckRange("stopping.max_tokens", max_tokens, 0, std::numeric_limits<std::int32_t>::max()));
  if (request.max_tokens.has_value()) {
    MK_RETURN_IF_ERROR(CheckRange("stopping.min_tokens", request.sampling.min_tokens, 0, max_tokens));
  } else {
    MK_RETURN_IF_ERROR(CheckRange("stopping.min_tokens", request.sampling.min_tokens, 0, max_context));
  }
  if (request.tokens.size() + static_cast<std::size_t>(max_tokens) > static_cast<std::size_t>(max_context)) {
    return FieldError(absl::StatusCode::kInvalidArgument, ErrorReason::kContextExceeded,
                      request.max_tokens.has_value() ? "stopping.max_tokens" : "prompt",
                      absl::StrCat("prompt of ", request.tokens.size(), " tokens and max_tokens ", max_tokens,
                                   " exceed the context of ", max_context, " tokens"));
  }
  return absl::OkStatus();
}

absl::Status CheckShape(const GenerateRequest& request) {
  MK_RETURN_IF_ERROR(CheckRange("num_sequences", request.n, 1, kMaxChoices));
  if (request.n > 1 && (!request.session_id.empty() || request.keep_session)) {
    return FieldError("num_sequences", absl::StrCat("num_sequences is ", request.n, ", must be 1 with a session"));
  }
  if (request.session_id.empty() && request.tokens.empty()) {
    return FieldError("prompt", "prompt is empty and there is no session to continue");
  }
  if (request.expected_length.has_value()) {
    if (request.session_id.empty()) return FieldError("expected_length", "expected_length needs a session_id");
    if (*request.expected_length < 0) {
      return FieldError("expected_length",
                        absl::StrCat("expected_length is ", *request.expected_length, ", must not be negative"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateRequest(const GenerateRequest& request, const ExecutorInfo& info, std::int32_t max_context) {
  const SamplingParams& sampling = request.sampling;
  MK_RETURN_IF_ERROR(CheckShape(request));
  MK_RETURN_IF_ERROR(CheckSamplingRanges(sampling, info.vocab));
  MK_RETURN_IF_ERROR(CheckFeatures(sampling, info));
  MK_RETURN_IF_ERROR(CheckRange("output.logprobs", sampling.logprobs, -1, info.max_logprobs));
  MK_RETURN_IF_ERROR(CheckRange("output.prompt_logprobs", sampling.prompt_logprobs, -1, info.max_logprobs));
  MK_RETURN_IF_ERROR(CheckStops(request));
  MK_RETURN_IF_ERROR(CheckLengths(request, max_context));
  return CheckTokens("prompt", request.tokens, info.vocab);
}

}  // namespace megakernel
