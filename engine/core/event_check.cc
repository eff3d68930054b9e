#include "engine/core/event_check.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace megakernel {
namespace {

const char* TypeName(EventType type) {
  switch (type) {
    case EventType::kStarted:
      return "kStarted";
    case EventType::kToken:
      return "kToken";
    case EventType::kPromptLogprobs:
      return "kPromptLogprobs";
    case EventType::kFinished:
      return "kFinished";
    case EventType::kPages:
      return "kPages";
    case EventType::kStopped:
      return "kStopped";
  }
  return "unknown";
}

template <typename... Parts>
absl::Status Lie(const Event& event, const Parts&... parts) {
  return MakeError(absl::StatusCode::kInternal, ErrorReason::kExecutorFailed,
                   absl::StrCat("executor event ", TypeName(event.type), " of lane ", event.lane, ", epoch ",
                                event.epoch, ": ", parts...));
}

absl::Status CheckToken(const Event& event, const Choice& choice, const ExecutorInfo& info) {
  const SamplingParams& sampling = choice.generation->request.sampling;
  if (!choice.started) return Lie(event, "before kStarted");
  if (choice.prefill_only) return Lie(event, "the lane only reads its prompt");
  if (event.position != choice.next_position) {
    return Lie(event, "position ", event.position, ", expected ", choice.next_position);
  }
  if (event.position >= choice.token_limit) {
    return Lie(event, "position ", event.position, " at a token limit of ", choice.token_limit);
  }
  if (event.position > choice.sequence->capacity()) {
    return Lie(event, "position ", event.position, " needs a key at ", event.position - 1, ", pages hold ",
               choice.sequence->capacity());
  }
  if (event.token < 0 || event.token >= info.vocab) {
    return Lie(event, "token ", event.token, " of a vocabulary of ", info.vocab);
  }
  if ((event.logprobs != nullptr) != (sampling.logprobs >= 0)) {
    return Lie(event, sampling.logprobs >= 0 ? "no logprobs, asked for" : "logprobs, not asked for");
  }
  if (choice.generation->wants_prompt_logprobs()) {
    return Lie(event, "prompt logprobs are missing from position ", choice.generation->next_prompt_logprob);
  }
  return absl::OkStatus();
}

absl::Status CheckPromptLogprobs(const Event& event, const Choice& choice) {
  if (!choice.started) return Lie(event, "before kStarted");
  if (choice.generation->request.sampling.prompt_logprobs < 0 || event.logprobs == nullptr) {
    return Lie(event, "not asked for, or empty");
  }
  const std::vector<TokenId>& tokens = choice.sequence->tokens();
  if (event.position < 1 || event.position >= static_cast<std::int32_t>(tokens.size())) {
    return Lie(event, "position ", event.position, " of ", tokens.size(), " tokens");
  }
  if (event.token != tokens[event.position]) {
    return Lie(event, "token ", event.token, " at position ", event.position, ", which holds ", tokens[event.position]);
  }
  if (event.position > choice.generation->next_prompt_logprob) {
    return Lie(event, "position ", event.position, ", expected ", choice.generation->next_prompt_logprob);
  }
  return absl::OkStatus();
}

absl::Status CheckCause(const Event& event, const Choice& choice) {
  const std::vector<TokenId>& stops = choice.generation->request.sampling.stop_tokens;
  switch (event.cause) {
    case FinishCause::kStopToken:
      if (std::find(stops.begin(), stops.end(), choice.last_token) != stops.end()) return absl::OkStatus();
      return Lie(event, "kStopToken after token ", choice.last_token, ", which is none");
    case FinishCause::kLength:
      if (choice.next_position == choice.token_limit) return absl::OkStatus();
      return Lie(event, "kLength at ", choice.next_position, " tokens of ", choice.token_limit);
    case FinishCause::kPrefilled:
      if (choice.prefill_only && event.kv_length == choice.next_position - 1) return absl::OkStatus();
      return Lie(event, "kPrefilled with ", event.kv_length, " of ", choice.next_position, " positions");
    case FinishCause::kCancelled:
      if (choice.cancel_sent) return absl::OkStatus();
      return Lie(event, "kCancelled, which nobody asked for");
    case FinishCause::kFailed:
      return Lie(event, "kFailed");
    case FinishCause::kNone:
      break;
  }
  return Lie(event, "no cause");
}

absl::Status CheckFinished(const Event& event, const Choice& choice) {
  MK_RETURN_IF_ERROR(CheckCause(event, choice));
  const std::int32_t most = std::min(choice.next_position, choice.sequence->capacity());
  if (event.kv_length >= choice.sequence->kv_length() && event.kv_length <= most) return absl::OkStatus();
  return Lie(event, "kv_length ", event.kv_length, ", must be in [", choice.sequence->kv_length(), ", ", most, "]");
}

}  // namespace

absl::Status CheckEvent(const Event& event, const Choice* choice, const ExecutorInfo& info) {
  if (choice == nullptr) return Lie(event, "nothing runs there");
  if (event.epoch != choice->epoch) return Lie(event, "the lane is at epoch ", choice->epoch);
  switch (event.type) {
    case EventType::kStarted:
      return choice->started ? Lie(event, "twice") : absl::OkStatus();
    case EventType::kToken:
      return CheckToken(event, *choice, info);
    case EventType::kPromptLogprobs:
      return CheckPromptLogprobs(event, *choice);
    case EventType::kFinished:
      return CheckFinished(event, *choice);
    case EventType::kPages:
    case EventType::kStopped:
      break;
  }
  return Lie(event, "unknown type");
}

}  // namespace megakernel
