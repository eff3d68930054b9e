#include "server/grpc_status.h"

#include <grpcpp/server_context.h>

#include "absl/strings/str_cat.h"
#include "server/rpc_error.h"

namespace megakernel {

grpc::Status ToGrpcStatus(const absl::Status& status, grpc::ServerContextBase& context) {
  if (status.ok()) return grpc::Status::OK;
  const RpcError error = ToRpcError(status);
  if (error.retry_pushback_ms) context.AddTrailingMetadata(kRetryPushbackKey, absl::StrCat(*error.retry_pushback_ms));
  return grpc::Status(static_cast<grpc::StatusCode>(error.code), error.message, error.details);
}

}  // namespace megakernel
