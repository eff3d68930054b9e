#include "server/call_access.h"

#include <grpcpp/server_context.h>

#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"

namespace megakernel {

absl::StatusOr<Caller> IdentifyCaller(const grpc::ServerContextBase& context, const AccessControl* access) {
  if (access == nullptr) return Caller();
  std::vector<std::string_view> values;
  const auto [first, last] = context.client_metadata().equal_range("authorization");
  for (auto entry = first; entry != last; ++entry) {
    values.emplace_back(entry->second.data(), entry->second.size());
  }
  return access->Identify(values);
}

absl::StatusOr<Caller> AuthorizeCaller(const grpc::ServerContextBase& context, const AccessControl* access,
                                       Scope scope) {
  MK_ASSIGN_OR_RETURN(Caller caller, IdentifyCaller(context, access));
  MK_RETURN_IF_ERROR(caller.Require(scope));
  return caller;
}

absl::StatusOr<AdmittedCall> AdmitCall(const CallGate& gate, const grpc::ServerContextBase& context, Scope scope) {
  CallContext* const calls = gate.calls();
  if (calls == nullptr) return CallGate::Refusal();
  MK_ASSIGN_OR_RETURN(Caller caller, AuthorizeCaller(context, calls->access, scope));
  return AdmittedCall{calls, std::move(caller)};
}

}  // namespace megakernel
