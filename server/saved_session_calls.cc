// SessionService: sessions to the disk and back. The disk is waited for on the store's thread.
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/core/error.h"
#include "server/call_access.h"
#include "server/request_conversion.h"
#include "server/response_conversion.h"
#include "server/session_service.h"
#include "server/session_store.h"
#include "server/unary_call.h"

namespace megakernel {
namespace {

using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

ServerUnaryReactor* AnswerNow(CallbackServerContext* context, const absl::Status& status) {
  const auto call = UnaryCall::New(context);
  call->Answer(status);
  return call->reactor();
}

// Who calls, if there is a store and the name is one.
absl::StatusOr<AdmittedCall> AdmitToStore(const CallGate& gate, CallbackServerContext& context) {
  absl::StatusOr<AdmittedCall> admitted = AdmitCall(gate, context, Scope::kSession);
  if (admitted.ok() && admitted->calls->session_store == nullptr) {
    return MakeError(absl::StatusCode::kUnimplemented, ErrorReason::kUnsupported,
                     "the server has no folder for saved sessions");
  }
  return admitted;
}

absl::Status NoPlace() {
  return MakeError(
      absl::StatusCode::kResourceExhausted, ErrorReason::kQueueFull,
      absl::StrCat(SessionStore::kMaxTransfers, " sessions are being saved or restored, the most that may"));
}

void FillSaved(const SavedSessionInfo& info, v1::SavedSession& saved) {
  saved.set_name(info.name);
  saved.set_size_bytes(info.size_bytes);
  const std::int64_t seconds = absl::ToUnixSeconds(info.saved);
  saved.mutable_save_time()->set_seconds(seconds);
  saved.mutable_save_time()->set_nanos(
      static_cast<std::int32_t>(absl::ToInt64Nanoseconds(info.saved - absl::FromUnixSeconds(seconds))));
}

}  // namespace

ServerUnaryReactor* SessionService::SaveSession(CallbackServerContext* context, const v1::SaveSessionRequest* request,
                                                v1::SaveSessionResponse* response) {
  const auto admitted = AdmitToStore(gate_, *context);
  if (!admitted.ok()) return AnswerNow(context, admitted.status());
  if (auto status = CheckSessionId(request->session_id()); !status.ok()) return AnswerNow(context, status);
  if (auto status = SessionStore::CheckName(request->name()); !status.ok()) return AnswerNow(context, status);
  SessionStore* const store = admitted->calls->session_store;
  const std::shared_ptr<void> place = store->TakePlace();
  if (place == nullptr) return AnswerNow(context, NoPlace());
  const auto call = UnaryCall::New(context);
  const std::string& tenant = admitted->caller.tenant;
  admitted->calls->engine.ExportSession(
      tenant, request->session_id(),
      [call, response, store, place, tenant, name = request->name()](absl::StatusOr<SessionImage> exported) {
        if (!exported.ok()) return call->Answer(exported.status());
        const auto image = std::make_shared<SessionImage>(*std::move(exported));
        store->Post([call, response, store, place, tenant, name, image] {
          const auto saved = store->Save(tenant, name, *image);
          call->Answer(saved.status(), [&] { FillSaved(*saved, *response->mutable_saved_session()); });
        });
      });
  return call->reactor();
}

ServerUnaryReactor* SessionService::RestoreSession(CallbackServerContext* context,
                                                   const v1::RestoreSessionRequest* request,
                                                   v1::RestoreSessionResponse* response) {
  const auto admitted = AdmitToStore(gate_, *context);
  if (!admitted.ok()) return AnswerNow(context, admitted.status());
  if (auto status = SessionStore::CheckName(request->name()); !status.ok()) return AnswerNow(context, status);
  const auto ttl = ConvertDuration(request->has_idle_ttl(), request->idle_ttl(), "idle_ttl");
  if (!ttl.ok()) return AnswerNow(context, ttl.status());
  CallContext* const calls = admitted->calls;
  const std::shared_ptr<void> place = calls->session_store->TakePlace();
  if (place == nullptr) return AnswerNow(context, NoPlace());
  const auto call = UnaryCall::New(context);
  calls->session_store->Post(
      [call, response, calls, place, ttl = *ttl, tenant = admitted->caller.tenant, name = request->name()] {
        auto image = calls->session_store->Load(tenant, name, calls->engine.image_format(tenant));
        if (!image.ok()) return call->Answer(image.status());
        calls->engine.ImportSession(
            tenant, *std::move(image), ttl, [call, response, place](const absl::StatusOr<SessionInfo>& session) {
              call->Answer(session.status(), [&] { FillSession(*session, *response->mutable_session()); });
            });
      });
  return call->reactor();
}

ServerUnaryReactor* SessionService::ListSavedSessions(CallbackServerContext* context,
                                                      const v1::ListSavedSessionsRequest*,
                                                      v1::ListSavedSessionsResponse* response) {
  const auto admitted = AdmitToStore(gate_, *context);
  if (!admitted.ok()) return AnswerNow(context, admitted.status());
  const auto call = UnaryCall::New(context);
  SessionStore* const store = admitted->calls->session_store;
  store->Post([call, response, store, tenant = admitted->caller.tenant] {
    const auto saved = store->List(tenant);
    call->Answer(saved.status(), [&] {
      for (const SavedSessionInfo& info : *saved) FillSaved(info, *response->add_saved_sessions());
    });
  });
  return call->reactor();
}

ServerUnaryReactor* SessionService::DeleteSavedSession(CallbackServerContext* context,
                                                       const v1::DeleteSavedSessionRequest* request,
                                                       v1::DeleteSavedSessionResponse*) {
  const auto admitted = AdmitToStore(gate_, *context);
  if (!admitted.ok()) return AnswerNow(context, admitted.status());
  if (auto status = SessionStore::CheckName(request->name()); !status.ok()) return AnswerNow(context, status);
  const auto call = UnaryCall::New(context);
  SessionStore* const store = admitted->calls->session_store;
  store->Post([call, store, tenant = admitted->caller.tenant, name = request->name()] {
    call->Answer(store->Delete(tenant, name));
  });
  return call->reactor();
}

}  // namespace megakernel
