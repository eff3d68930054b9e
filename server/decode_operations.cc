// What the operations of a Decode stream do.
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/core/error.h"
#include "server/decode_call.h"
#include "server/request_conversion.h"
#include "server/rpc_error.h"

namespace megakernel {
namespace {

// Where the fields of an operation begin in DecodeRequest.
std::string OperationPath(const v1::DecodeRequest& request) {
  switch (request.operation_case()) {
    case v1::DecodeRequest::kOpen:
      return "open";
    case v1::DecodeRequest::kAppend:
      return "append";
    case v1::DecodeRequest::kDecode:
      return "decode";
    case v1::DecodeRequest::kRollBack:
      return "roll_back";
    case v1::DecodeRequest::kCancel:
      return "cancel";
    case v1::DecodeRequest::OPERATION_NOT_SET:
      return "";
  }
  return "";
}

// The field that `error` blames, as a path in DecodeRequest.
std::string OperationField(const v1::DecodeRequest& request, const absl::Status& error) {
  const std::string field = FieldOf(error);
  if (field.empty() || field == "open" || field == "operation") return field;
  const std::string path = OperationPath(request);
  if (field.starts_with(path)) return field;
  // To the engine an append is a generation of no tokens; what it says of that generation is said of the operation.
  if (request.has_append() && field != "expected_length") return path;
  return absl::StrCat(path, ".", field);
}

absl::Status CancelledByCaller() {
  return MakeError(absl::StatusCode::kCancelled, ErrorReason::kCancelled, "cancelled before it ran");
}

}  // namespace

void DecodeCall::Run() {
  bool cancelled, open;
  {
    MutexLock lock(&mutex_);
    cancelled = cancelled_;
    open = !session_id_.empty();
  }
  const v1::DecodeRequest& request = current_.request;
  if (cancelled && !request.has_cancel()) return Fail(CancelledByCaller());
  if (request.has_open()) return open ? Fail(FieldError("open", "a session is open already")) : RunOpen();
  if (request.operation_case() == v1::DecodeRequest::OPERATION_NOT_SET) {
    return Fail(FieldError("operation", "the message has no operation"));
  }
  if (!open) return Fail(FieldError("open", "the first operation must be open"));
  if (request.has_append()) return RunAppend();
  if (request.has_decode()) return RunDecode();
  if (request.has_roll_back()) return RunRollBack();
  MutexLock lock(&mutex_);
  // The client may have gone since the operation was taken.
  if (!outbox_.ending()) FillState(*AddResponse().mutable_cancelled());
  Complete();
}

void DecodeCall::RunOpen() {
  const std::string& id = current_.request.open().session_id();
  const bool create = id.empty();
  const auto opened = [self = shared_from_this(), create](const absl::StatusOr<SessionInfo>& session) {
    self->OnOpened(session, create);
    self->Advance();
  };
  if (create) return context_.engine.CreateSession(caller_.tenant, std::nullopt, opened);
  if (absl::Status status = caller_.Require(Scope::kSession); !status.ok()) return Fail(status);
  if (absl::Status status = CheckSessionId(id); !status.ok()) return Fail(status);
  context_.engine.GetSession(caller_.tenant, id, false, opened);
}

void DecodeCall::OnOpened(const absl::StatusOr<SessionInfo>& session, bool created) {
  {
    MutexLock lock(&mutex_);
    if (!session.ok()) return CompleteWith(session.status());
    session_id_ = session->id;
    session_length_ = session->length;
    if (!ended_) {
      owns_session_ = created;
      if (!outbox_.ending()) FillState(*AddResponse().mutable_opened());
      return Complete();
    }
  }
  // The client went before its session was made.
  if (created) context_.engine.DeleteSession(caller_.tenant, session->id, [](const absl::StatusOr<SessionInfo>&) {});
}

absl::Status DecodeCall::CheckAppend(const v1::AppendTokens& append) const {
  switch (append.content_case()) {
    case v1::AppendTokens::kText:
      return context_.encoder.CheckText(append.text(), "append.text");
    case v1::AppendTokens::kChat:
      return context_.encoder.CheckChat(append.chat(), "append.chat");
    case v1::AppendTokens::kTokens:
      return absl::OkStatus();
    case v1::AppendTokens::CONTENT_NOT_SET:
      return FieldError("append.content", "there is nothing to append");
  }
  return absl::OkStatus();
}

void DecodeCall::RunAppend() {
  const v1::AppendTokens& append = current_.request.append();
  if (absl::Status status = CheckAppend(append); !status.ok()) return Fail(status);
  std::string session_id;
  std::int32_t length;
  {
    MutexLock lock(&mutex_);
    session_id = session_id_;
    length = session_length_;
  }
  if (length > 0 && (append.has_chat() || (append.has_text() && context_.encoder.adds_bos()))) {
    context_.engine.GetSession(caller_.tenant, session_id, true, [self = shared_from_this()](auto session) mutable {
      if (!session.ok()) return self->Fail(session.status());
      // What was read must still be there when the tokens are appended.
      v1::AppendTokens& operation = *self->current_.request.mutable_append();
      if (!operation.has_expected_length()) operation.set_expected_length(session->length);
      self->context_.tasks.Post(
          [self, history = std::move(session->tokens)] { self->SubmitAppend(self->EncodeAppend(history)); });
    });
  } else if (!append.has_tokens() && current_.bytes > kInlinePromptBytes) {
    context_.tasks.Post([self = shared_from_this()] { self->SubmitAppend(self->EncodeAppend({})); });
  } else {
    SubmitAppend(EncodeAppend({}));
  }
}

absl::StatusOr<std::vector<TokenId>> DecodeCall::EncodeAppend(const std::vector<TokenId>& history) const {
  const v1::AppendTokens& append = current_.request.append();
  if (append.has_text()) return context_.encoder.EncodeText(append.text(), history.empty());
  if (append.has_chat()) return context_.encoder.EncodeChat(append.chat(), history, "append.chat");
  return context_.encoder.TakeTokens(append.tokens(), "append.tokens");
}

void DecodeCall::SubmitAppend(absl::StatusOr<std::vector<TokenId>> tokens) {
  if (!tokens.ok()) return Fail(tokens.status());
  if (tokens->empty()) {
    return Fail(FieldError(current_.request.append().has_text() ? "append.text" : "append.chat",
                           "it comes to no tokens: at least one is needed"));
  }
  GenerateRequest request;
  request.tokens = *std::move(tokens);
  request.max_tokens = 0;
  request.sampling.temperature = 0;  // nothing is sampled: needs no feature of the executor
  request.wants_text = false;
  const v1::AppendTokens& append = current_.request.append();
  if (append.has_expected_length()) {
    if (absl::Status status = CheckExpectedLength(append.expected_length()); !status.ok()) return Fail(status);
    request.expected_length = append.expected_length();
  }
  Submit(std::move(request));
}

void DecodeCall::RunDecode() {
  const v1::DecodeTokens& decode = current_.request.decode();
  auto request = ConvertParameters(context_.default_sampling, decode.sampling(), decode.stopping(), decode.output());
  if (!request.ok()) return Fail(request.status());
  {
    MutexLock lock(&mutex_);
    selection_ = SelectOutput(decode.output());
    seed_ = request->sampling.seed;
  }
  Submit(*std::move(request));
}

void DecodeCall::Submit(GenerateRequest request) {
  request.tenant = caller_.tenant;
  request.deadline = deadline_;
  bool cancelled;
  {
    MutexLock lock(&mutex_);
    request.session_id = session_id_;
    cancelled = cancelled_;
  }
  if (cancelled) return Fail(CancelledByCaller());
  auto stream = context_.engine.Generate(std::move(request));
  if (!stream.ok()) return Fail(stream.status());
  bool gone;
  {
    MutexLock lock(&mutex_);
    stream_ = *stream;
    gone = outbox_.ending();
    cancelled = cancelled_;
  }
  if (gone || cancelled) (*stream)->Cancel();
  if (!gone) (*stream)->SetWake([self = shared_from_this()] { self->context_.pump.Enter(self); });
}

void DecodeCall::RunRollBack() {
  std::string session_id;
  {
    MutexLock lock(&mutex_);
    session_id = session_id_;
  }
  context_.engine.RollbackSession(caller_.tenant, session_id, current_.request.roll_back().length(),
                                  [self = shared_from_this()](const absl::StatusOr<SessionInfo>& session) {
                                    if (!session.ok()) return self->Fail(session.status());
                                    {
                                      MutexLock lock(&self->mutex_);
                                      self->session_length_ = session->length;
                                      if (!self->outbox_.ending())
                                        self->FillState(*self->AddResponse().mutable_rolled_back());
                                      self->Complete();
                                    }
                                    self->Advance();
                                  });
}

void DecodeCall::Convert() {
  const bool decodes = current_.request.has_decode();
  if (decodes && update_.started) {
    FillStarted(*update_.started, absl::StrCat(current_.request.operation_id()), seed_, context_.instance_id,
                *AddResponse().mutable_started());
  }
  const ChoiceUpdate& choice = update_.choices[0];
  record_.output_tokens += static_cast<std::int64_t>(choice.tokens.size());
  if (decodes && HasDelta(selection_, 0, update_)) {
    v1::DecodeResponse& response = AddResponse(static_cast<std::int64_t>(choice.tokens.size()), update_.drained_at);
    FillDelta(selection_, 0, update_, *response.mutable_delta());
  }
  if (choice.finished) ConvertEnd(*choice.finished);
}

void DecodeCall::ConvertEnd(const Finished& finished) {
  stream_ = nullptr;
  record_.Add(finished);
  // A refusal says nothing about the session; what was admitted reports how long it left it.
  if (finished.status.ok() || finished.session_length > 0) session_length_ = finished.session_length;
  const bool cancelled_by_caller = cancelled_ && absl::IsCancelled(finished.status);
  if (!finished.status.ok() && !(cancelled_by_caller && current_.request.has_decode())) {
    return CompleteWith(finished.status);
  }
  if (current_.request.has_decode()) {
    FillFinished(0, finished, *AddResponse().mutable_finished());
  } else {
    FillState(*AddResponse().mutable_appended());
  }
  Complete();
}

v1::DecodeResponse& DecodeCall::AddResponse(std::int64_t tokens, absl::Time drained_at) {
  v1::DecodeResponse& response = outbox_.Add(tokens, drained_at);
  response.set_operation_id(current_.request.operation_id());
  return response;
}

void DecodeCall::FillState(v1::SessionState& state) const {
  state.set_session_id(session_id_);
  state.set_length(session_length_);
}

void DecodeCall::Complete() {
  running_ = false;
  outbox_.Send();
}

void DecodeCall::CompleteWith(const absl::Status& error) {
  if (!outbox_.ending()) {
    *AddResponse().mutable_error() = ToOperationError(error, OperationField(current_.request, error), session_length_);
  }
  Complete();
}

void DecodeCall::Fail(const absl::Status& error) {
  {
    MutexLock lock(&mutex_);
    CompleteWith(error);
  }
  Advance();
}

}  // namespace megakernel
