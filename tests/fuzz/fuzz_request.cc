// A GenerateRequest from the wire to the engine's own checks. What passes keeps every promise that an executor relies
// on.
#include <cmath>
#include <string>

#include "engine/base/check.h"
#include "engine/core/error.h"
#include "engine/executor/fake_executor.h"
#include "google/protobuf/stubs/logging.h"
#include "megakernel/v1/inference_service.pb.h"
#include "megakernel/v1/session_service.pb.h"
#include "server/byte_model.h"
#include "server/prompt_encoder.h"
#include "server/request_conversion.h"
#include "tests/fuzz/fuzz_target.h"

namespace megakernel {
namespace {

constexpr std::int32_t kContext = 512;

// An executor that offers everything, or nothing beyond greedy choice.
ExecutorInfo Info(bool everything) {
  ExecutorInfo info;
  info.device = "fuzz";
  info.max_lanes = 4;
  info.max_rows = 16;
  info.max_context = kContext;
  info.vocab = kByteModelVocab;
  info.page_tokens = 16;
  info.num_pages = 64;
  info.features = everything ? ~0u : 0u;
  info.max_logprobs = everything ? 8 : 0;
  return info;
}

template <typename T>
bool Within(T value, T low, T high) {
  return value >= low && value <= high;  // false for what is no number
}

void CheckPromises(const GenerateRequest& request, const ExecutorInfo& info) {
  const SamplingParams& s = request.sampling;
  MK_CHECK(Within(s.temperature, 0.0f, 100.0f) && Within(s.top_k, 0, info.vocab));
  MK_CHECK(s.top_p > 0 && s.top_p <= 1 && Within(s.min_p, 0.0f, 1.0f));
  MK_CHECK(s.repetition_penalty > 0 && s.repetition_penalty <= 10);
  MK_CHECK(Within(s.presence_penalty, -10.0f, 10.0f) && Within(s.frequency_penalty, -10.0f, 10.0f));
  MK_CHECK(Within(s.logprobs, -1, info.max_logprobs) && Within(s.prompt_logprobs, -1, info.max_logprobs));
  MK_CHECK(s.logit_bias.size() <= std::size_t{kMaxLogitBias} && s.stop_tokens.size() <= std::size_t{kMaxStopTokens});
  for (const auto& [token, bias] : s.logit_bias) {
    MK_CHECK(Within(token, 0, info.vocab - 1) && Within(bias, -100.0f, 100.0f));
  }
  for (const auto* tokens : {&request.tokens, &s.allowed_tokens, &s.stop_tokens}) {
    for (const TokenId token : *tokens) MK_CHECK(Within(token, 0, info.vocab - 1));
  }
  MK_CHECK(Within(request.n, 1, kMaxChoices) && (request.n == 1 || request.session_id.empty()));
  const std::int32_t output = request.max_tokens.value_or(1);
  MK_CHECK(output >= 0 && request.tokens.size() + static_cast<std::size_t>(output) <= std::size_t{kContext});
  MK_CHECK(Within(s.min_tokens, 0, request.max_tokens.value_or(kContext)));
  MK_CHECK(request.stop_strings.size() <= std::size_t{kMaxStopStrings});
  if (info.features == 0) MK_CHECK(s.temperature == 0 && s.top_k == 0 && s.logit_bias.empty() && s.logprobs < 0);
}

// Every refusal has a reason and says which field it is about.
void CheckRefusal(const absl::Status& status) {
  MK_CHECK(!status.message().empty() && !FieldOf(status).empty());
  MK_CHECK(absl::IsInvalidArgument(status) || absl::IsUnimplemented(status));
}

absl::StatusOr<std::vector<TokenId>> Encode(const PromptEncoder& encoder, const v1::GenerateRequest& request) {
  if (request.has_text()) {
    const absl::Status status = encoder.CheckText(request.text(), "text");
    if (!status.ok()) return status;
    return encoder.EncodeText(request.text(), true);
  }
  if (request.has_chat()) {
    const absl::Status status = encoder.CheckChat(request.chat(), "chat");
    if (!status.ok()) return status;
    return encoder.EncodeChat(request.chat(), {}, "chat");
  }
  if (request.has_tokens()) return encoder.TakeTokens(request.tokens(), "tokens");
  return std::vector<TokenId>();
}

// As GenerateCall does it.
absl::Status Validate(const PromptEncoder& encoder, const ExecutorInfo& info, const v1::GenerateRequest& request) {
  absl::Status status = CheckRequestId(request.request_id());
  if (!status.ok()) return status;
  if (!request.session_id().empty()) status = CheckSessionId(request.session_id());
  if (!status.ok()) return status;
  auto tokens = Encode(encoder, request);
  if (!tokens.ok()) return tokens.status();
  auto converted = ConvertParameters({}, request.sampling(), request.stopping(), request.output());
  if (!converted.ok()) return converted.status();
  converted->session_id = request.session_id();
  if (request.has_expected_length()) converted->expected_length = request.expected_length();
  if (request.has_num_sequences()) converted->n = request.num_sequences();
  converted->tokens = *std::move(tokens);
  status = ValidateRequest(*converted, info, kContext);
  if (status.ok()) CheckPromises(*converted, info);
  return status;
}

}  // namespace
}  // namespace megakernel

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace megakernel;
  static const std::unique_ptr<Model> model = NewByteModel(kContext);
  static const PromptEncoder encoder(*model);
  static auto* const log = google::protobuf::SetLogHandler(nullptr);  // it would report every text that is no UTF-8
  (void)log;
  if (size == 0) return 0;
  const std::string_view bytes = test::AsText(data + 1, size - 1);
  if (data[0] % 4 == 3) {
    v1::CreateSessionRequest request;
    if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return 0;
    const auto ttl = ConvertDuration(request.has_idle_ttl(), request.idle_ttl(), "idle_ttl");
    if (!ttl.ok()) CheckRefusal(ttl.status());
    return 0;
  }
  v1::GenerateRequest request;
  if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return 0;
  const absl::Status status = Validate(encoder, Info(data[0] % 4 != 0), request);
  if (!status.ok()) CheckRefusal(status);
  return 0;
}
