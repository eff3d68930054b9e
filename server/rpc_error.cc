#include "server/rpc_error.h"

#include <algorithm>

#include "engine/core/error.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace megakernel {
namespace {

// Trailers travel in HTTP/2 headers, which gRPC limits to 8 KiB; message and details both carry the text.
constexpr std::size_t kMaxMessageBytes = 1024;

// Rounded up, so that the tenant is not refused once more; -1 for never.
std::int32_t QuotaDelayMs(absl::Duration delay) {
  if (delay == absl::InfiniteDuration()) return -1;
  constexpr absl::Duration kLongest = absl::Hours(24);
  return static_cast<std::int32_t>(
      absl::ToInt64Milliseconds(absl::Ceil(std::min(delay, kLongest), absl::Milliseconds(1))));
}

// When trying again is likely to help. The queue moves with every finished request; pages and sessions come free when
// sessions end or expire. Once a stream's output has been lost to a slow reader, a repetition would be lost too.
std::optional<std::int32_t> RetryDelayMs(const absl::Status& status) {
  if (ReasonOf(status) == ErrorReason::kStarting) return 1000;
  if (status.code() != absl::StatusCode::kResourceExhausted) return std::nullopt;
  switch (ReasonOf(status)) {
    case ErrorReason::kQueueFull:
      return 100;
    case ErrorReason::kKvExhausted:
      return 1000;
    case ErrorReason::kSessionLimit:
      return 5000;
    case ErrorReason::kQuotaExceeded:
      return QuotaDelayMs(RetryAfterOf(status));
    default:
      return -1;
  }
}

std::string Message(const absl::Status& status) {
  std::string message(status.message());
  if (message.size() > kMaxMessageBytes) {
    std::size_t end = kMaxMessageBytes;
    while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xc0) == 0x80) --end;  // whole characters
    message.resize(end);
  }
  return message;
}

std::string Reason(const absl::Status& status) {
  const ErrorReason reason = ReasonOf(status);
  if (reason != ErrorReason::kUnspecified) return std::string(ReasonName(reason));
  return absl::StatusCodeToString(status.code());  // UPPER_SNAKE_CASE already
}

template <typename Detail>
void AddDetail(const Detail& detail, google::rpc::Status& status) {
  status.add_details()->PackFrom(detail);
}

}  // namespace

RpcError ToRpcError(const absl::Status& status) {
  RpcError error;
  error.code = static_cast<int>(status.code());
  error.message = Message(status);
  error.retry_pushback_ms = RetryDelayMs(status);

  google::rpc::Status details;
  details.set_code(error.code);
  details.set_message(error.message);
  google::rpc::ErrorInfo info;
  info.set_reason(Reason(status));
  info.set_domain(kErrorDomain);
  AddDetail(info, details);
  if (const std::string field = FieldOf(status); !field.empty()) {
    google::rpc::BadRequest bad_request;
    auto* violation = bad_request.add_field_violations();
    violation->set_field(field);
    violation->set_description(error.message);
    AddDetail(bad_request, details);
  }
  if (const std::string tenant = TenantOf(status); !tenant.empty()) {
    google::rpc::QuotaFailure quota;
    auto* violation = quota.add_violations();
    violation->set_subject("tenant:" + tenant);
    violation->set_description(error.message);
    AddDetail(quota, details);
  }
  if (error.retry_pushback_ms && *error.retry_pushback_ms >= 0) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(*error.retry_pushback_ms / 1000);
    retry.mutable_retry_delay()->set_nanos(*error.retry_pushback_ms % 1000 * 1000000);
    AddDetail(retry, details);
  }
  error.details = details.SerializeAsString();
  return error;
}

v1::OperationError ToOperationError(const absl::Status& status, const std::string& field, std::int32_t length) {
  v1::OperationError error;
  error.set_code(static_cast<int>(status.code()));
  error.set_reason(Reason(status));
  error.set_message(Message(status));
  error.set_field(field);
  error.set_length(length);
  return error;
}

}  // namespace megakernel
