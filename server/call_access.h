// Who makes a gRPC call, and whether it may come in.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/access.h"
#include "server/call_gate.h"

namespace grpc {
class ServerContextBase;
}

namespace megakernel {

// By the call's metadata; with its trace. `access` null: nobody needs a token. Errors of AccessControl::Identify.
absl::StatusOr<Caller> IdentifyCaller(const grpc::ServerContextBase& context, const AccessControl* access);

// The same, and the caller must have `scope`: SCOPE_MISSING.
absl::StatusOr<Caller> AuthorizeCaller(const grpc::ServerContextBase& context, const AccessControl* access,
                                       Scope scope);

struct AdmittedCall {
  CallContext* calls;  // not null
  Caller caller;
};

// What every call of the API begins with: STARTING, or errors of AuthorizeCaller.
absl::StatusOr<AdmittedCall> AdmitCall(const CallGate& gate, const grpc::ServerContextBase& context, Scope scope);

}  // namespace megakernel
