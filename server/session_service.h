// SessionService on gRPC's callback API: each call is one operation of the engine.
#pragma once

#include "megakernel/v1/session_service.grpc.pb.h"
#include "server/call_gate.h"

namespace megakernel {

// Thread-safe. `gate` outlives it.
class SessionService final : public v1::SessionService::CallbackService {
 public:
  explicit SessionService(const CallGate& gate) : gate_(gate) {}

  grpc::ServerUnaryReactor* CreateSession(grpc::CallbackServerContext* context, const v1::CreateSessionRequest* request,
                                          v1::CreateSessionResponse* response) override;
  grpc::ServerUnaryReactor* GetSession(grpc::CallbackServerContext* context, const v1::GetSessionRequest* request,
                                       v1::GetSessionResponse* response) override;
  grpc::ServerUnaryReactor* ListSessions(grpc::CallbackServerContext* context, const v1::ListSessionsRequest* request,
                                         v1::ListSessionsResponse* response) override;
  grpc::ServerUnaryReactor* ForkSession(grpc::CallbackServerContext* context, const v1::ForkSessionRequest* request,
                                        v1::ForkSessionResponse* response) override;
  grpc::ServerUnaryReactor* RollbackSession(grpc::CallbackServerContext* context,
                                            const v1::RollbackSessionRequest* request,
                                            v1::RollbackSessionResponse* response) override;
  grpc::ServerUnaryReactor* DeleteSession(grpc::CallbackServerContext* context, const v1::DeleteSessionRequest* request,
                                          v1::DeleteSessionResponse* response) override;
  grpc::ServerUnaryReactor* SaveSession(grpc::CallbackServerContext* context, const v1::SaveSessionRequest* request,
                                        v1::SaveSessionResponse* response) override;
  grpc::ServerUnaryReactor* RestoreSession(grpc::CallbackServerContext* context,
                                           const v1::RestoreSessionRequest* request,
                                           v1::RestoreSessionResponse* response) override;
  grpc::ServerUnaryReactor* ListSavedSessions(grpc::CallbackServerContext* context,
                                              const v1::ListSavedSessionsRequest* request,
                                              v1::ListSavedSessionsResponse* response) override;
  grpc::ServerUnaryReactor* DeleteSavedSession(grpc::CallbackServerContext* context,
                                               const v1::DeleteSavedSessionRequest* request,
                                               v1::DeleteSavedSessionResponse* response) override;

 private:
  const CallGate& gate_;
};

}  // namespace megakernel
