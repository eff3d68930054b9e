#include "server/response_conversion.h"

namespace megakernel {
namespace {

void FillTokenLogprob(const TokenLogprob& from, v1::TokenLogprob& to) {
  to.set_token_id(from.token);
  to.set_logprob(from.logprob);
  to.set_rank(from.rank);
}

void FillPosition(const Logprobs& from, v1::PositionLogprobs& to) {
  FillTokenLogprob(from.chosen, *to.mutable_chosen());
  for (const TokenLogprob& candidate : from.top) FillTokenLogprob(candidate, *to.add_top());
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStopToken:
    case FinishReason::kStopString:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kCancelled:
      return v1::FINISH_REASON_CANCELLED;
    case FinishReason::kFailed:
      return v1::FINISH_REASON_UNSPECIFIED;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

void FillTimestamp(absl::Time time, google::protobuf::Timestamp& to) {
  const std::int64_t seconds = absl::ToUnixSeconds(time);
  to.set_seconds(seconds);
  to.set_nanos(static_cast<std::int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
}

}  // namespace

void FillStarted(const Started& started, const std::string& request_id, std::uint64_t seed,
                 const std::string& instance_id, v1::GenerationStarted& message) {
  message.set_request_id(request_id);
  message.set_session_id(started.session_id);
  message.set_prompt_tokens(started.prompt_tokens);
  message.set_cached_tokens(started.cached_tokens);
  message.set_seed(seed);
  message.set_instance_id(instance_id);
}

bool HasDelta(const OutputSelection& selection, int index, const StreamUpdate& update) {
  const ChoiceUpdate& choice = update.choices[static_cast<std::size_t>(index)];
  return (selection.token_ids && !choice.tokens.empty()) || (selection.text && !choice.text.empty()) ||
         !choice.logprobs.empty() || (index == 0 && !update.prompt_logprobs.empty());
}

void FillDelta(const OutputSelection& selection, int index, const StreamUpdate& update, v1::GenerationDelta& delta) {
  const ChoiceUpdate& choice = update.choices[static_cast<std::size_t>(index)];
  delta.set_index(index);
  if (selection.token_ids) delta.mutable_token_ids()->Add(choice.tokens.begin(), choice.tokens.end());
  if (selection.text) delta.set_text(choice.text);
  for (const Logprobs& logprobs : choice.logprobs) FillPosition(logprobs, *delta.add_logprobs());
  if (index != 0) return;
  for (const PromptLogprob& prompt : update.prompt_logprobs) {
    FillPosition(prompt.logprobs, *delta.add_prompt_logprobs());
  }
}

void FillFinished(int index, const Finished& finished, v1::GenerationFinished& message) {
  message.set_index(index);
  message.set_reason(ToProto(finished.reason));
  if (finished.stop_token) message.set_stop_token_id(*finished.stop_token);
  if (finished.reason == FinishReason::kStopString) message.set_stop(finished.matched_stop);
  v1::Usage& usage = *message.mutable_usage();
  usage.set_prompt_tokens(finished.usage.prompt_tokens);
  usage.set_cached_tokens(finished.usage.cached_tokens);
  usage.set_completion_tokens(finished.usage.output_tokens);
  v1::Timings& timings = *message.mutable_timings();
  timings.set_queue_ns(absl::ToInt64Nanoseconds(finished.timings.queue));
  timings.set_prefill_ns(absl::ToInt64Nanoseconds(finished.timings.prefill));
  timings.set_decode_ns(absl::ToInt64Nanoseconds(finished.timings.decode));
  message.set_session_length(finished.session_length);
}

void FillSession(const SessionInfo& info, v1::Session& message) {
  message.set_session_id(info.id);
  message.set_parent_session_id(info.parent_id);
  message.set_length(info.length);
  message.set_kv_length(info.kv_length);
  message.set_capacity(info.capacity);
  message.set_busy(info.busy);
  FillTimestamp(info.created, *message.mutable_create_time());
  if (info.expires != absl::InfiniteFuture()) FillTimestamp(info.expires, *message.mutable_expire_time());
}

}  // namespace megakernel
