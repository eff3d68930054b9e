#include "server/request_conversion.h"

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"

namespace megakernel {
namespace {

void ConvertSampling(const v1::SamplingParameters& from, SamplingParams& to) {
  if (from.has_temperature()) to.temperature = from.temperature();
  if (from.has_top_k()) to.top_k = from.top_k();
  if (from.has_top_p()) to.top_p = from.top_p();
  if (from.has_min_p()) to.min_p = from.min_p();
  if (from.has_repetition_penalty()) to.repetition_penalty = from.repetition_penalty();
  if (from.has_presence_penalty()) to.presence_penalty = from.presence_penalty();
  if (from.has_frequency_penalty()) to.frequency_penalty = from.frequency_penalty();
  to.logit_bias.assign(from.logit_bias().begin(), from.logit_bias().end());
  std::sort(to.logit_bias.begin(), to.logit_bias.end());  // the map's order is not defined
  to.allowed_tokens.assign(from.allowed_token_ids().begin(), from.allowed_token_ids().end());
  to.seed = from.has_seed() ? from.seed() : RandomSeed();
}

absl::Status ConvertStopping(const v1::StoppingCriteria& from, GenerateRequest& to) {
  if (from.has_max_tokens()) {
    if (from.max_tokens() < 1) {
      return FieldError("stopping.max_tokens",
                        absl::StrCat("stopping.max_tokens is ", from.max_tokens(), ", must be at least 1"));
    }
    to.max_tokens = from.max_tokens();
  }
  to.sampling.min_tokens = from.min_tokens();
  to.stop_strings.assign(from.stop().begin(), from.stop().end());
  to.sampling.stop_tokens.assign(from.stop_token_ids().begin(), from.stop_token_ids().end());
  to.ignore_eos = from.ignore_eos();
  to.include_stop = from.include_stop();
  return absl::OkStatus();
}

// The engine writes "none" as -1, which a caller may not.
absl::Status CheckNotNegative(std::int32_t value, std::string_view field) {
  if (value >= 0) return absl::OkStatus();
  return FieldError(field, absl::StrCat(std::string(field), " is ", value, ", must not be negative"));
}

}  // namespace

absl::Status CheckRequestId(const std::string& request_id) {
  if (request_id.size() > kMaxRequestIdBytes) {
    return FieldError("request_id",
                      absl::StrCat("request_id has ", request_id.size(), " bytes, at most ", kMaxRequestIdBytes));
  }
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (std::any_of(request_id.begin(), request_id.end(), control)) {  // it is written to logs
    return FieldError("request_id", "request_id has a control character");
  }
  return absl::OkStatus();
}

absl::Status CheckSessionId(const std::string& session_id) {
  if (session_id.empty()) return FieldError("session_id", "session_id is missing");
  if (session_id.size() > kMaxSessionIdBytes) {
    return FieldError("session_id",
                      absl::StrCat("session_id has ", session_id.size(), " bytes, at most ", kMaxSessionIdBytes));
  }
  return absl::OkStatus();
}

absl::Status CheckExpectedLength(std::optional<std::int32_t> expected_length) {
  return expected_length ? CheckNotNegative(*expected_length, "expected_length") : absl::OkStatus();
}

absl::StatusOr<GenerateRequest> ConvertParameters(const SamplingParams& defaults,
                                                  const v1::SamplingParameters& sampling,
                                                  const v1::StoppingCriteria& stopping,
                                                  const v1::OutputOptions& output) {
  GenerateRequest request;
  request.sampling = defaults;
  ConvertSampling(sampling, request.sampling);
  MK_RETURN_IF_ERROR(ConvertStopping(stopping, request));
  if (output.has_logprobs()) {
    MK_RETURN_IF_ERROR(CheckNotNegative(output.logprobs(), "output.logprobs"));
    request.sampling.logprobs = output.logprobs();
  }
  if (output.has_prompt_logprobs()) {
    MK_RETURN_IF_ERROR(CheckNotNegative(output.prompt_logprobs(), "output.prompt_logprobs"));
    request.sampling.prompt_logprobs = output.prompt_logprobs();
  }
  request.wants_text = SelectOutput(output).text;
  request.skip_special_tokens = !output.has_skip_special_tokens() || output.skip_special_tokens();
  return request;
}

OutputSelection SelectOutput(const v1::OutputOptions& output) {
  return {.text = !output.has_text() || output.text(), .token_ids = !output.has_token_ids() || output.token_ids()};
}

absl::StatusOr<std::optional<absl::Duration>> ConvertDuration(bool present, const google::protobuf::Duration& duration,
                                                              std::string_view field) {
  if (!present) return std::optional<absl::Duration>();
  constexpr std::int64_t kMaxSeconds = 315'576'000'000;  // 10,000 years, as duration.proto says
  constexpr std::int32_t kMaxNanos = 999'999'999;
  const std::int64_t seconds = duration.seconds();
  const std::int32_t nanos = duration.nanos();
  if (seconds < -kMaxSeconds || seconds > kMaxSeconds || nanos < -kMaxNanos || nanos > kMaxNanos ||
      (seconds < 0 && nanos > 0) || (seconds > 0 && nanos < 0)) {
    return FieldError(field, absl::StrCat(std::string(field), " is not a valid duration"));
  }
  return std::optional<absl::Duration>(absl::Seconds(seconds) + absl::Nanoseconds(nanos));
}

std::uint64_t RandomSeed() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

std::string RandomName(int bytes) {
  std::random_device device;
  std::string name;
  for (int i = 0; i < bytes; i += 4) name += absl::StrFormat("%08x", device());
  name.resize(static_cast<std::size_t>(bytes) * 2);
  return name;
}

}  // namespace megakernel
