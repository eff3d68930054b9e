#include "server/session_service.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/core/error.h"
#include "server/grpc_status.h"
#include "server/request_conversion.h"
#include "server/response_conversion.h"
#include "server/tenant.h"

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
SessionCallback AnswerWithSession(CallbackServerContext* context, ServerUnaryReactor* reactor, Response* response) {
  return [=](const absl::StatusOr<SessionInfo>& session) {
    if (session.ok()) FillSession(*session, *response->mutable_session());
    reactor->Finish(ToGrpcStatus(session.status(), *context));
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
  const auto ttl = ConvertDuration(request->has_idle_ttl(), request->idle_ttl(), "idle_ttl");
  if (!ttl.ok()) return FinishNow(context, ttl.status());
  ServerUnaryReactor* reactor = context->DefaultReactor();
  engine_.CreateSession(ResolveTenant(), *ttl, AnswerWithSession(context, reactor, response));
  return reactor;
}

ServerUnaryReactor* SessionService::GetSession(CallbackServerContext* context, const v1::GetSessionRequest* request,
                                               v1::GetSessionResponse* response) {
  if (auto status = CheckSessionId(request->session_id()); !status.ok()) return FinishNow(context, status);
  ServerUnaryReactor* reactor = context->DefaultReactor();
  engine_.GetSession(ResolveTenant(), request->session_id(), request->include_tokens(),
                     [=](const absl::StatusOr<SessionInfo>& session) {
                       if (session.ok()) {
                         FillSession(*session, *response->mutable_session());
                         response->mutable_token_ids()->Add(session->tokens.begin(), session->tokens.end());
                       }
                       reactor->Finish(ToGrpcStatus(session.status(), *context));
                     });
  return reactor;
}

ServerUnaryReactor* SessionService::ListSessions(CallbackServerContext* context, const v1::ListSessionsRequest* request,
                                                 v1::ListSessionsResponse* response) {
  if (request->has_page_size() && (request->page_size() < 1 || request->page_size() > kMaxSessionPage)) {
    return FinishNow(context, FieldError("page_size", absl::StrCat("page_size is ", request->page_size(),
                                                                   ", must be in [1, ", kMaxSessionPage, "]")));
  }
  ServerUnaryReactor* reactor = context->DefaultReactor();
  engine_.ListSessions(ResolveTenant(), request->page_size(), request->page_token(),
                       [=](const absl::StatusOr<SessionPage>& page) {
                         if (page.ok()) {
                           for (const SessionInfo& session : page->sessions) {
                             FillSession(session, *response->add_sessions());
                           }
                           response->set_next_page_token(page->next_page_token);
                         }
                         reactor->Finish(ToGrpcStatus(page.status(), *context));
                       });
  return reactor;
}

ServerUnaryReactor* SessionService::ForkSession(CallbackServerContext* context, const v1::ForkSessionRequest* request,
                                                v1::ForkSessionResponse* response) {
  if (auto status = CheckSessionId(request->session_id()); !status.ok()) return FinishNow(context, status);
  if (auto status = CheckLength(request->length()); !status.ok()) return FinishNow(context, status);
  const auto ttl = ConvertDuration(request->has_idle_ttl(), request->idle_ttl(), "idle_ttl");
  if (!ttl.ok()) return FinishNow(context, ttl.status());
  std::optional<std::int32_t> length;
  if (request->has_length()) length = request->length();
  ServerUnaryReactor* reactor = context->DefaultReactor();
  engine_.ForkSession(ResolveTenant(), request->session_id(), length, *ttl,
                      AnswerWithSession(context, reactor, response));
  return reactor;
}

ServerUnaryReactor* SessionService::RollbackSession(CallbackServerContext* context,
                                                    const v1::RollbackSessionRequest* request,
                                                    v1::RollbackSessionResponse* response) {
  if (auto status = CheckSessionId(request->session_id()); !status.ok()) return FinishNow(context, status);
  if (auto status = CheckLength(request->length()); !status.ok()) return FinishNow(context, status);
  ServerUnaryReactor* reactor = context->DefaultReactor();
  engine_.RollbackSession(ResolveTenant(), request->session_id(), request->length(),
                          AnswerWithSession(context, reactor, response));
  return reactor;
}

ServerUnaryReactor* SessionService::DeleteSession(CallbackServerContext* context,
                                                  const v1::DeleteSessionRequest* request, v1::DeleteSessionResponse*) {
  if (auto status = CheckSessionId(request->session_id()); !status.ok()) return FinishNow(context, status);
  ServerUnaryReactor* reactor = context->DefaultReactor();
  engine_.DeleteSession(ResolveTenant(), request->session_id(), [=](const absl::StatusOr<SessionInfo>& session) {
    reactor->Finish(ToGrpcStatus(session.status(), *context));
  });
  return reactor;
}

}  // namespace megakernel
