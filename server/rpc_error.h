// The one place where an error of the engine or of validation becomes an error of the API: code, google.rpc details,
// and how long to wait before a retry.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "megakernel/v1/inference_service.pb.h"

namespace megakernel {

inline constexpr char kErrorDomain[] = "megakernel";
inline constexpr char kRetryPushbackKey[] = "grpc-retry-pushback-ms";

struct RpcError {
  int code = 0;  // google.rpc.Code, which is grpc::StatusCode too
  std::string message;
  std::string details;  // a serialised google.rpc.Status: the value of grpc-status-details-bin
  // Of the trailer grpc-retry-pushback-ms; negative: do not retry. Set for RESOURCE_EXHAUSTED and STARTING.
  std::optional<std::int32_t> retry_pushback_ms;
};

// REQUIRES: !status.ok().
RpcError ToRpcError(const absl::Status& status);

// The same inside a Decode stream. `field` is the path in DecodeRequest, `length` that of the session.
v1::OperationError ToOperationError(const absl::Status& status, const std::string& field, std::int32_t length);

}  // namespace megakernel
