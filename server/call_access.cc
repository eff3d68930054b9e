#include "server/call_access.h"

#include <grpcpp/server_context.h>

#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"

namespace megakernel {

absl::StatusOr<Caller> IdentifyCaller(const grpc::ServerContextBase& context, const AccessControl* access) {
  const auto& metadata = context.client_metadata();
  Caller caller;
  if (access != nullptr) {
    std::vector<std::string_view> values;
    const auto [first, last] = metadata.equal_range("authorization");
    for (auto entry = first; entry != last; ++entry) {
      values.emplace_back(entry->second.data(), entry->second.size());
    }
    MK_ASSIGN_OR_RETURN(caller, access->Identify(values));
  }
  if (metadata.count("traceparent") == 1) {
    const grpc::string_ref value = metadata.find("traceparent")->second;
    caller.trace = ParseTraceParent({value.data(), value.size()});
  }
  return caller;
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
