// EngineCore: from the executor's events to tokens in streams, and every way to end.
#include <algorithm>
#include <iterator>
#include <utility>

#include "engine/base/check.h"
#include "engine/core/engine_core.h"
#include "engine/core/event_check.h"
#include "engine/text/tokenizer.h"

namespace megakernel {

void EngineCore::OnEvent(Event& event) {
  if (event.type == EventType::kStopped) {
    stopped_ = true;
    return;
  }
  if (!failure_.ok() || stopped_) return;
  if (event.type == EventType::kPages && event.pages != nullptr) return OnPages(*event.pages);
  if (event.type == EventType::kFinished && event.cause == FinishCause::kFailed) {
    const absl::Status health = executor_->Health();
    Fail(health.ok() ? absl::InternalError("a sequence failed") : health);
    return;
  }
  Choice* const choice = dispatcher_.InLane(event.lane);
  if (const absl::Status status = CheckEvent(event, choice, executor_->info()); !status.ok()) {
    Fail(status);
    return;
  }
  switch (event.type) {
    case EventType::kStarted:
      return OnStarted(*choice);
    case EventType::kToken:
      return OnToken(*choice, event);
    case EventType::kPromptLogprobs:
      return OnPromptLogprobs(*choice, event);
    case EventType::kFinished:
      return OnFinished(*choice, event);
    case EventType::kPages:
    case EventType::kStopped:
      return;
  }
}

void EngineCore::OnStarted(Choice& choice) {
  choice.started = true;
  if (!choice.end.has_value()) MarkStarted(*choice.generation);
}

void EngineCore::OnToken(Choice& choice, Event& event) {
  ++choice.next_position;
  choice.last_token = event.token;
  if (choice.end.has_value()) return;
  const GenerateRequest& request = choice.generation->request;
  text_.clear();
  bool stop = false;
  if (choice.text.has_value()) {
    const std::string_view bytes = model_->tokenizer().TokenBytes(event.token, request.skip_special_tokens);
    stop = choice.text->Push(bytes, text_);
    if (!request.wants_text) text_.clear();
  }
  if (!choice.generation->stream->PushToken(choice.index, event.token, text_, std::move(event.logprobs), now_)) {
    EndRunning(choice, {FinishReason::kFailed,
                        MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kSlowConsumer,
                                  "the stream's buffer is full: its tokens are not being read"),
                        ""});
    return;
  }
  choice.sequence->Append(event.token);
  choice.sequence->SetWritten(event.position);
  if (choice.output_tokens++ == 0) {
    choice.first_token = now_;
    metrics_->time_to_first_token.Add(now_ - choice.generation->accepted);
  } else {
    metrics_->inter_token_time.Add(now_ - choice.last_token_time);
  }
  choice.last_token_time = now_;
  ++totals_.output_tokens;
  if (choice.generation->usage != nullptr) choice.generation->usage->Spend(1);
  if (stop) EndRunning(choice, {FinishReason::kStopString, absl::OkStatus(), choice.text->matched_stop()});
}

void EngineCore::OnPromptLogprobs(Choice& choice, Event& event) {
  Generation& generation = *choice.generation;
  // Positions before the request's own tokens, and those seen before a preemption, are not for it.
  if (choice.end.has_value() || event.position != generation.next_prompt_logprob ||
      event.position >= generation.prompt_length) {
    return;
  }
  ++generation.next_prompt_logprob;
  generation.stream->PushPromptLogprob({.position = event.position, .logprobs = std::move(*event.logprobs)}, now_);
}

void EngineCore::OnFinished(Choice& choice, const Event& event) {
  choice.sequence->Settle(event.kv_length);
  const bool cancelled = event.cause == FinishCause::kCancelled;
  dispatcher_.Vacate(&choice, /*requeue=*/cancelled && !choice.end.has_value());
  if (choice.state == ChoiceState::kWaiting) return;  // preempted
  if (choice.end.has_value()) {
    Finish(choice, *choice.end);
  } else if (event.cause == FinishCause::kPrefilled) {
    OnPrefilled(choice);
  } else {
    const bool stop = event.cause == FinishCause::kStopToken;
    Finish(choice, {stop ? FinishReason::kStopToken : FinishReason::kLength, absl::OkStatus(), ""});
  }
}

void EngineCore::OnExhausted(Choice* choice, absl::Status status) {
  EndGeneration(*choice->generation, {FinishReason::kFailed, std::move(status), ""});
}

void EngineCore::EndRunning(Choice& choice, End end) {
  choice.end = std::move(end);
  dispatcher_.Cancel(&choice);
}

void EngineCore::EndChoice(Choice& choice, const End& end) {
  switch (choice.state) {
    case ChoiceState::kWaiting:
      dispatcher_.Dequeue(&choice);
      Finish(choice, end);
      return;
    case ChoiceState::kIdle:
      Finish(choice, end);
      return;
    case ChoiceState::kRunning:
      if (!choice.end.has_value()) EndRunning(choice, end);
      return;
    case ChoiceState::kDone:
      return;
  }
}

void EngineCore::EndGeneration(Generation& generation, const End& end) {
  for (Choice& choice : generation.choices) EndChoice(choice, end);
}

// The choice is in no lane and no queue. After the last one the generation is only waiting to be swept.
void EngineCore::Finish(Choice& choice, const End& end) {
  MK_CHECK(choice.state == ChoiceState::kIdle);
  Generation& generation = *choice.generation;
  choice.state = ChoiceState::kDone;
  text_.clear();
  if (choice.text.has_value() && generation.request.wants_text && end.reason != FinishReason::kStopString) {
    choice.text->Finish(text_);
  }
  // A prompt of which no row has run is not part of the session.
  if (generation.session != nullptr && !generation.has_started() && choice.sequence != nullptr) {
    choice.sequence->Truncate(generation.base_length);
  }
  metrics_->finished.Add(end.reason);
  Finished finished = Summary(choice, end);
  choice.sequence = nullptr;
  choice.own.reset();
  const bool last = --generation.unfinished == 0;
  if (last) {
    if (!end.status.ok()) metrics_->errors.Add(ReasonOf(end.status));
    metrics_->request_time.Add(now_ - generation.accepted);
    MarkAdmitted(generation);
    LeaveSession(generation);
    generation.deleted.reset();
    ForgetDeadline(generation);
    ended_.push_back(generation.id);
    hooks_.on_ending();
  }
  generation.stream->PushFinished(choice.index, text_, std::move(finished), now_);
  if (!last) return;
  for (SessionCallback& done : generation.on_deleted) done(SessionInfo());
  hooks_.on_ended();
}

void EngineCore::ForgetDeadline(const Generation& generation) {
  auto [it, end] = deadlines_.equal_range(generation.request.deadline);
  while (it != end) it = it->second == generation.id ? deadlines_.erase(it) : std::next(it);
}

void EngineCore::LeaveSession(Generation& generation) {
  Session* const session = generation.session;
  if (session == nullptr || generation.deleted != nullptr) return;
  sessions_.Take(session);
  session->busy = nullptr;
  session->last_used = now_;
  sessions_.Put(session);
  // A session made for this request is not known to anybody before Started.
  if (generation.request.session_id.empty() && !generation.has_started()) sessions_.Remove(session);
}

Finished EngineCore::Summary(const Choice& choice, const End& end) const {
  const Generation& generation = *choice.generation;
  const bool started = generation.has_started();
  Finished finished;
  finished.reason = end.reason;
  finished.status = end.status;
  finished.usage = {.prompt_tokens = generation.prompt_length,
                    .cached_tokens = generation.cached_tokens,
                    .output_tokens = choice.output_tokens};
  finished.timings.queue = (started ? generation.started : now_) - generation.accepted;
  if (choice.output_tokens > 0) {
    finished.timings.prefill = choice.first_token - generation.started;
    finished.timings.decode = choice.last_token_time - choice.first_token;
  } else if (started) {
    finished.timings.prefill = now_ - generation.started;
  }
  // A clock that was set back meanwhile makes no negative times.
  for (absl::Duration* time : {&finished.timings.queue, &finished.timings.prefill, &finished.timings.decode}) {
    *time = std::max(*time, absl::ZeroDuration());
  }
  if (choice.sequence != nullptr) {
    finished.session_length = choice.sequence->length();
  } else {
    finished.session_length = started ? generation.prompt_length : generation.base_length;
  }
  finished.matched_stop = end.matched_stop;
  if (end.reason == FinishReason::kStopToken) finished.stop_token = choice.last_token;
  return finished;
}

}  // namespace megakernel
