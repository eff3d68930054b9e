// EngineCore: from a request to choices that wait for lanes.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/core/engine_core.h"

namespace megakernel {

void EngineCore::Start(std::unique_ptr<Generation> owned) {
  Generation& generation = *owned;
  generations_.emplace(generation.id, std::move(owned));
  generation.choices.resize(generation.request.n);
  generation.unfinished = generation.request.n;
  for (int i = 0; i < generation.request.n; ++i) {
    generation.choices[i].generation = &generation;
    generation.choices[i].index = i;
  }
  ++totals_.requests;
  const absl::Status status = failure_.ok() ? Resolve(generation) : failure_;
  if (!status.ok()) {
    Refuse(generation, status);
    return;
  }
  if (generation.request.deadline != absl::InfiniteFuture()) {
    deadlines_.emplace(generation.request.deadline, generation.id);
  }
  MakeChoices(generation);
  dispatcher_.Enqueue(&generation.choices.front());
}

// Finds or makes the session, checks what only it can tell, and appends the prompt.
absl::Status EngineCore::Resolve(Generation& generation) {
  const GenerateRequest& request = generation.request;
  if (request.session_id.empty()) {
    MK_RETURN_IF_ERROR(CheckRoom(generation, 0));
    MK_RETURN_IF_ERROR(CheckPages(request.tenant, PagesOf(generation), nullptr));
    generation.pages_counted = true;
    if (!request.keep_session) return absl::OkStatus();
    auto session = std::make_unique<Session>(&cache_, request.tenant);
    session->ttl = options_.session_ttl;
    MK_ASSIGN_OR_RETURN(generation.session, AddSession(std::move(session)));
  } else {
    MK_ASSIGN_OR_RETURN(Session* const session, FindIdle(request.tenant, request.session_id));
    const std::int32_t length = session->sequence.length();
    generation.base_length = length;
    if (request.expected_length.has_value() && *request.expected_length != length) {
      return FieldError(absl::StatusCode::kAborted, ErrorReason::kLengthMismatch, "expected_length",
                        absl::StrCat("expected_length is ", *request.expected_length, ", session ", session->id,
                                     " has ", length, " tokens"));
    }
    if (length == 0 && request.tokens.empty()) {
      return FieldError("prompt", absl::StrCat("prompt is empty and session ", session->id, " has no tokens"));
    }
    MK_RETURN_IF_ERROR(CheckRoom(generation, length));
    MK_RETURN_IF_ERROR(CheckPages(request.tenant, PagesOf(generation), session));
    generation.pages_counted = true;
    generation.session = session;
  }
  MarkBusy(generation);
  return absl::OkStatus();
}

void EngineCore::MarkBusy(Generation& generation) {
  sessions_.Take(generation.session);
  generation.session->busy = &generation;
  sessions_.Put(generation.session);
}

absl::Status EngineCore::CheckRoom(Generation& generation, std::int32_t base_length) const {
  const GenerateRequest& request = generation.request;
  generation.base_length = base_length;
  generation.prompt_length = base_length + static_cast<std::int32_t>(request.tokens.size());
  const std::int64_t max_tokens = request.max_tokens.value_or(1);
  if (generation.prompt_length + max_tokens <= max_context_) return absl::OkStatus();
  return FieldError(absl::StatusCode::kInvalidArgument, ErrorReason::kContextExceeded,
                    request.max_tokens.has_value() ? "stopping.max_tokens" : "prompt",
                    absl::StrCat("prompt of ", generation.prompt_length, " tokens (", base_length,
                                 " of them in the session) and max_tokens ", max_tokens, " exceed the context of ",
                                 max_context_, " tokens"));
}

void EngineCore::MakeChoices(Generation& generation) {
  GenerateRequest& request = generation.request;
  if (!request.ignore_eos) {
    const std::vector<TokenId>& eos = model_->config().eos_tokens;
    request.sampling.stop_tokens.insert(request.sampling.stop_tokens.end(), eos.begin(), eos.end());
  }
  generation.next_prompt_logprob = std::max(1, generation.base_length);
  const std::int32_t token_limit = TokenLimit(generation);
  for (Choice& choice : generation.choices) {
    choice.token_limit = token_limit;
    if (request.wants_text || !request.stop_strings.empty()) {
      choice.text.emplace(request.stop_strings, request.include_stop);
    }
  }
  Choice& first = generation.choices.front();
  if (generation.session != nullptr) {
    first.sequence = &generation.session->sequence;
  } else {
    first.own = std::make_unique<Sequence>(&cache_, request.tenant);
    first.sequence = first.own.get();
  }
  first.sequence->Append(request.tokens);
  first.prefill_only = request.n > 1 || token_limit == generation.prompt_length;
}

// Nothing was queued: every choice ends with `status`.
void EngineCore::Refuse(Generation& generation, absl::Status status) {
  if (generation.usage != nullptr)
    generation.usage->Spend(-static_cast<std::int64_t>(generation.request.tokens.size()));
  const End end{FinishReason::kFailed, std::move(status), ""};
  for (Choice& choice : generation.choices) Finish(choice, end);
  SweepEnded();
}

// The prompt of a prefill-only choice is computed.
void EngineCore::OnPrefilled(Choice& choice) {
  Generation& generation = *choice.generation;
  MarkStarted(generation);
  if (choice.token_limit == generation.prompt_length) {
    const End end{FinishReason::kLength, absl::OkStatus(), ""};
    for (Choice& each : generation.choices) Finish(each, end);
    return;
  }
  for (Choice& each : generation.choices) {
    if (each.index > 0) {
      each.own = std::make_unique<Sequence>(*choice.sequence, generation.prompt_length);
      each.sequence = each.own.get();
    }
    each.prefill_only = false;
    dispatcher_.Enqueue(&each);
  }
}

void EngineCore::OnNothingToPrefill(Choice* choice) {
  Generation& generation = *choice->generation;
  if (!generation.has_started()) generation.cached_tokens = choice->sequence->kv_length();
  OnPrefilled(*choice);
}

void EngineCore::MarkAdmitted(Generation& generation) {
  if (std::exchange(generation.admitted, true)) return;
  if (generation.usage != nullptr) generation.usage->LeaveQueue();
  hooks_.on_left_queue();
}

void EngineCore::MarkStarted(Generation& generation) {
  if (generation.has_started()) return;
  MarkAdmitted(generation);
  generation.started = now_;
  metrics_->queue_time.Add(now_ - generation.accepted);
  totals_.prompt_tokens += generation.prompt_length;
  totals_.cached_tokens += generation.cached_tokens;
  const Session* const session = generation.session;
  generation.stream->PushStarted({.session_id = session != nullptr ? session->id : "",
                                  .prompt_tokens = generation.prompt_length,
                                  .cached_tokens = generation.cached_tokens,
                                  .queue_time = now_ - generation.accepted},
                                 now_);
}

}  // namespace megakernel
