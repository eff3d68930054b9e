// The gRPC side of CallOptions and Error. Private to clients/cpp: other headers of the library do not include gRPC.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include "clients/cpp/call_options.h"
#include "clients/cpp/error.h"
#include "megakernel/v1/inference_service.pb.h"

namespace megakernel::client {

// One call's context: carries the deadline, and is tied to the cancel token for as long as it lives.
class CallScope {
 public:
  explicit CallScope(const CallOptions& options);
  ~CallScope();
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

  grpc::ClientContext* context() { return &context_; }

 private:
  grpc::ClientContext context_;
  CancelToken* const cancel_;
};

// Reads code, message and the details that the server attached (google.rpc.ErrorInfo, BadRequest, RetryInfo).
Error FromStatus(const grpc::Status& status);

// The same for an operation of a Decode stream that failed.
Error FromOperation(const v1::OperationError& operation);

}  // namespace megakernel::client
