#include "server/generate_call.h"

#include <utility>

#include "engine/base/status_macros.h"
#include "engine/model/model.h"
#include "server/request_conversion.h"

namespace megakernel {

GenerateCall::GenerateCall(CallContext& context, GenerateTransport& transport)
    : context_(context), outbox_(transport, context.clock, context.write_latency) {}

void GenerateCall::Start(const v1::GenerateRequest& request, absl::Time deadline,
                         const absl::StatusOr<Caller>& caller) {
  arrived_ = context_.clock.Now();
  context_.live_calls.Add(shared_from_this());
  if (!caller.ok()) return Fail(caller.status());
  {
    MutexLock lock(&mutex_);
    record_.tenant = caller->tenant;
    record_.trace = caller->trace;
  }
  if (absl::Status status = caller->Require(Scope::kInfer); !status.ok()) return Fail(std::move(status));
  if (!request.session_id().empty()) {
    if (absl::Status status = caller->Require(Scope::kSession); !status.ok()) return Fail(std::move(status));
  }
  if (absl::Status status = Check(request); !status.ok()) return Fail(std::move(status));
  auto parameters =
      ConvertParameters(context_.default_sampling, request.sampling(), request.stopping(), request.output());
  if (!parameters.ok()) return Fail(parameters.status());
  request_ = *std::move(parameters);
  request_.tenant = caller->tenant;
  request_.session_id = request.session_id();
  if (request.has_expected_length()) request_.expected_length = request.expected_length();
  if (request.has_num_sequences()) request_.n = request.num_sequences();
  request_.deadline = deadline;
  selection_ = SelectOutput(request.output());
  request_id_ = request.request_id().empty() ? RandomName(16) : request.request_id();
  Encode(request);
}

absl::Status GenerateCall::Check(const v1::GenerateRequest& request) const {
  MK_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  if (!request.session_id().empty()) MK_RETURN_IF_ERROR(CheckSessionId(request.session_id()));
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      return context_.encoder.CheckText(request.text(), "text");
    case v1::GenerateRequest::kChat:
      return context_.encoder.CheckChat(request.chat(), "chat");
    default:
      return absl::OkStatus();
  }
}

void GenerateCall::Encode(const v1::GenerateRequest& request) {
  const bool has_text = request.has_text() || request.has_chat();
  // A conversation continues where the session's tokens end; text begins with a beginning-of-sequence token only when
  // there are none.
  const bool needs_history =
      !request.session_id().empty() && (request.has_chat() || (request.has_text() && context_.encoder.adds_bos()));
  if (needs_history) {
    context_.engine.GetSession(
        request_.tenant, request_.session_id, true,
        [self = shared_from_this(), request](absl::StatusOr<SessionInfo> session) mutable {
          if (!session.ok()) return self->Fail(session.status());
          // What was read must still be there when the tokens are appended.
          if (!self->request_.expected_length) self->request_.expected_length = session->length;
          self->context_.tasks.Post([self, request = std::move(request), history = std::move(session->tokens)] {
            self->Submit(self->EncodeNow(request, history));
          });
        });
  } else if (has_text && request.ByteSizeLong() > kInlinePromptBytes) {
    context_.tasks.Post([self = shared_from_this(), request] { self->Submit(self->EncodeNow(request, {})); });
  } else {
    Submit(EncodeNow(request, {}));
  }
}

absl::StatusOr<std::vector<TokenId>> GenerateCall::EncodeNow(const v1::GenerateRequest& request,
                                                             const std::vector<TokenId>& history) const {
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      return context_.encoder.EncodeText(request.text(), history.empty());
    case v1::GenerateRequest::kChat:
      return context_.encoder.EncodeChat(request.chat(), history, "chat");
    case v1::GenerateRequest::kTokens:
      return context_.encoder.TakeTokens(request.tokens(), "tokens");
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return std::vector<TokenId>();
  }
  return absl::InternalError("unknown kind of prompt");
}

void GenerateCall::Submit(absl::StatusOr<std::vector<TokenId>> tokens) {
  if (!tokens.ok()) return Fail(tokens.status());
  request_.tokens = *std::move(tokens);
  {
    MutexLock lock(&mutex_);
    if (outbox_.ending()) return;  // the client has gone meanwhile
    seed_ = request_.sampling.seed;
  }
  auto stream = context_.engine.Generate(std::move(request_));
  if (!stream.ok()) return Fail(stream.status());
  bool gone;
  {
    MutexLock lock(&mutex_);
    gone = outbox_.ending();
    if (!gone) stream_ = *stream;
  }
  if (gone) return (*stream)->Cancel();
  (*stream)->SetWake([self = shared_from_this()] { self->context_.pump.Enter(self); });
}

void GenerateCall::Fail(absl::Status status) {
  MutexLock lock(&mutex_);
  outbox_.End(std::move(status));
  outbox_.Send();
}

void GenerateCall::PumpTokens() {
  MutexLock lock(&mutex_);
  Pump();
}

void GenerateCall::OnWriteDone(bool ok) {
  MutexLock lock(&mutex_);
  outbox_.OnWriteDone(ok);
  outbox_.Send();
  Pump();
}

// What is left in the stream while a write is in flight becomes one message when it has ended.
void GenerateCall::Pump() {
  while (stream_ != nullptr && !outbox_.busy() && !outbox_.ending()) {
    if (!stream_->Pop(update_)) return;
    Convert();
    outbox_.Send();
  }
}

void GenerateCall::Convert() {
  if (update_.started) {
    record_.session_id = update_.started->session_id;
    FillStarted(*update_.started, request_id_, seed_, context_.instance_id, *outbox_.Add().mutable_started());
  }
  for (std::size_t i = 0; i < update_.choices.size(); ++i) {
    const int index = static_cast<int>(i);
    const ChoiceUpdate& choice = update_.choices[i];
    record_.output_tokens += static_cast<std::int64_t>(choice.tokens.size());
    if (HasDelta(selection_, index, update_)) {
      v1::GenerateResponse& response = outbox_.Add(static_cast<std::int64_t>(choice.tokens.size()), update_.drained_at);
      FillDelta(selection_, index, update_, *response.mutable_delta());
    }
    if (!choice.finished) continue;
    if (record_.operations == 0) record_.Add(*choice.finished);
    if (!choice.finished->status.ok()) return outbox_.End(choice.finished->status);
    FillFinished(index, *choice.finished, *outbox_.Add().mutable_finished());
  }
  if (update_.done) outbox_.End(absl::OkStatus());
}

void GenerateCall::OnCancel() {
  std::shared_ptr<TokenStream> stream;
  {
    MutexLock lock(&mutex_);
    outbox_.Abandon(absl::CancelledError("the call was cancelled"));
    outbox_.Send();
    stream = stream_;
  }
  if (stream != nullptr) stream->Cancel();
}

void GenerateCall::OnTick() {
  std::shared_ptr<TokenStream> stream;
  {
    MutexLock lock(&mutex_);
    if (!outbox_.Stuck(context_.write_timeout)) return;
    outbox_.Abort(NotReadError(context_.write_timeout));
    stream = stream_;
  }
  if (stream != nullptr) stream->Cancel();
}

void GenerateCall::OnDone() {
  std::shared_ptr<TokenStream> stream;
  RequestRecord record;
  {
    MutexLock lock(&mutex_);
    stream = std::exchange(stream_, nullptr);
    record = std::move(record_);
    record.request_id = request_id_;
    record.status = outbox_.status();
  }
  if (stream != nullptr) stream->Detach();
  context_.live_calls.Remove(this);
  record.total = context_.clock.Now() - arrived_;
  if (context_.log) context_.log(record);
}

}  // namespace megakernel
