#include "server/session_service.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/core/error.h"
#include "server/call_access.h"
#include "server/grpc_status.h"
#include "server/request_conversion.h"
#include "server/response_conversion.h"
#include "server/unary_call.h"

namespace megakernel {
namespace {

using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

ServerUnaryReactor* FinishNow(CallbackServerContext* context, const absl::Status& status) {
  ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status, *context));
  return reactor;
}

// A callback for the engine that fills response->session and ends the call.
template <typename Response>
SessionCallback AnswerWithSession(std::shared_ptr<UnaryCall> call, Response* response) {
  return [call = std::move(call), response](const absl::StatusOr<SessionInfo>& session) {
    call->Answer(session.status(), [&] { FillSession(*session, *response->mutable_session()); });
  };
}

absl::Status CheckLength(std::int32_t length) {
  if (length >= 0) return absl::OkStatus();
  return FieldError("length", absl::StrCat("length is ", length, ", must not be negative"));
}

}  // namespace

ServerUnaryReactor* SessionService::CreateSession(CallbackServerContext* context,
                                                  const v1::CreateSessionRequest* request,
                                                  v1::CreateSessionResponse* response) {
  const auto admitted = AdmitCall(gate_, *context, Scope::kSession);
  if (!admitted.ok()) return FinishNow(context, admitted.status());
  const auto ttl = ConvertDuration(request->has_idle_ttl(), request->idle_ttl(), "idle_ttl");
  if (!ttl.ok()) return FinishNow(context, ttl.status());
  const auto call = UnaryCall::New(context);
  admitted->calls->engine.CreateSession(admitted->caller.tenant, *ttl, AnswerWithSession(call, response));
  return call->reactor();
}

ServerUnaryReactor* SessionService::GetSession(CallbackServerContext* context, const v1::GetSessionRequest* request,
                                               v1::GetSessionResponse* response) {
  const auto admitted = AdmitCall(gate_, *context, Scope::kSession);
  if (!admitted.ok()) return FinishNow(context, admitted.status());
  if (auto status = CheckSessionId(request->session_id()); !status.ok()) return FinishNow(context, status);
  const auto call = UnaryCall::New(context);
  admitted->calls->engine.GetSession(admitted->caller.tenant, request->session_id(), request->include_tokens(),
                                     [=](const absl::StatusOr<SessionInfo>& session) {
                                       call->Answer(session.status(), [&] {
                                         FillSession(*session, *response->mutable_session());
                                         response->mutable_token_ids()->Add(session->tokens.begin(),
                                                                            session->tokens.end());
                                       });
                                     });
  return call->reactor();
}

ServerUnaryReactor* SessionService::ListSessions(CallbackServerContext* context, const v1::ListSessionsRequest* request,
                                                 v1::ListSessionsResponse* response) {
  const auto admitted = AdmitCall(gate_, *context, Scope::kSession);
  if (!admitted.ok()) return FinishNow(context, admitted.status());
  if (request->has_page_size() && (request->page_size() < 1 || request->page_size() > kMaxSessionPage)) {
    return FinishNow(context, FieldError("page_size", absl::StrCat("page_size is ", request->page_size(),
                                                                   ", must be in [1, ", kMaxSessionPage, "]")));
  }
  if (request->page_token().size() > kMaxSessionIdBytes) {
    return FinishNow(context, FieldError("page_token", absl::StrCat("page_token has ", request->page_token().size(),
                                                                    " bytes, at most ", kMaxSessionIdBytes)));
  }
  const auto call = UnaryCall::New(context);
  admitted->calls->engine.ListSessions(admitted->caller.tenant, request->page_size(), request->page_token(),
                                       [=](const absl::StatusOr<SessionPage>& page) {
                                         call->Answer(page.status(), [&] {
                                           for (const SessionInfo& session : page->sessions) {
                                             FillSession(session, *response->add_sessions());
                                           }
                                           response->set_next_page_token(page->next_page_token);
                                         });
                                       });
  return call->reactor();
}

ServerUnaryReactor* SessionService::ForkSession(CallbackServerContext* context, const v1::ForkSessionRequest* request,
                                                v1::ForkSessionResponse* response) {
  const auto admitted = AdmitCall(gate_, *context, Scope::kSession);
  if (!admitted.ok()) return FinishNow(context, admitted.status());
  if (auto status = CheckSessionId(request->session_id()); !status.ok()) return FinishNow(context, status);
  if (auto status = CheckLength(request->length()); !status.ok()) return FinishNow(context, status);
  const auto ttl = ConvertDuration(request->has_idle_ttl(), request->idle_ttl(), "idle_ttl");
  if (!ttl.ok()) return FinishNow(context, ttl.status());
  std::optional<std::int32_t> length;
  if (request->has_length()) length = request->length();
  const auto call = UnaryCall::New(context);
  admitted->calls->engine.ForkSession(admitted->caller.tenant, request->session_id(), length, *ttl,
                                      AnswerWithSession(call, response));
  return call->reactor();
}

ServerUnaryReactor* SessionService::RollbackSession(CallbackServerContext* context,
                                                    const v1::RollbackSessionRequest* request,
                                                    v1::RollbackSessionResponse* response) {
  const auto admitted = AdmitCall(gate_, *context, Scope::kSession);
  if (!admitted.ok()) return FinishNow(context, admitted.status());
  if (auto status = CheckSessionId(request->session_id()); !status.ok()) return FinishNow(context, status);
  if (auto status = CheckLength(request->length()); !status.ok()) return FinishNow(context, status);
  const auto call = UnaryCall::New(context);
  admitted->calls->engine.RollbackSession(admitted->caller.tenant, request->session_id(), request->length(),
                                          AnswerWithSession(call, response));
  return call->reactor();
}

ServerUnaryReactor* SessionService::DeleteSession(CallbackServerContext* context,
                                                  const v1::DeleteSessionRequest* request, v1::DeleteSessionResponse*) {
  const auto admitted = AdmitCall(gate_, *context, Scope::kSession);
  if (!admitted.ok()) return FinishNow(context, admitted.status());
  if (auto status = CheckSessionId(request->session_id()); !status.ok()) return FinishNow(context, status);
  const auto call = UnaryCall::New(context);
  admitted->calls->engine.DeleteSession(
      admitted->caller.tenant, request->session_id(),
      [=](const absl::StatusOr<SessionInfo>& session) { call->Answer(session.status()); });
  return call->reactor();
}

}  // namespace megakernel
