// Errors as gRPC sends them.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace grpc {
class ServerContextBase;
}

namespace megakernel {

// OK stays OK; an error gets its google.rpc details, and the trailer for retries in `context`. Call before Finish.
grpc::Status ToGrpcStatus(const absl::Status& status, grpc::ServerContextBase& context);

}  // namespace megakernel
