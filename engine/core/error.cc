#include "engine/core/error.h"

#include <iterator>

#include "absl/strings/cord.h"
#include "engine/base/absl_view.h"

namespace megakernel {
namespace {

constexpr char kReasonKey[] = "megakernel/reason";
constexpr char kFieldKey[] = "megakernel/field";
constexpr char kTenantKey[] = "megakernel/tenant";
constexpr char kRetryKey[] = "megakernel/retry-after";

constexpr ErrorReason kAllReasons[] = {
    ErrorReason::kInvalidField,    ErrorReason::kUnsupported,      ErrorReason::kContextExceeded,
    ErrorReason::kSessionNotFound, ErrorReason::kSessionExpired,   ErrorReason::kSessionBusy,
    ErrorReason::kSessionDeleted,  ErrorReason::kLengthMismatch,   ErrorReason::kSessionLimit,
    ErrorReason::kQueueFull,       ErrorReason::kKvExhausted,      ErrorReason::kSlowConsumer,
    ErrorReason::kCancelled,       ErrorReason::kDeadlineExceeded, ErrorReason::kDraining,
    ErrorReason::kExecutorFailed,  ErrorReason::kStarting,         ErrorReason::kStorageFull,
    ErrorReason::kStorageFailed,   ErrorReason::kReloadFailed,     ErrorReason::kSessionCorrupt,
    ErrorReason::kSessionForeign,  ErrorReason::kQuotaExceeded,    ErrorReason::kTokenMissing,
    ErrorReason::kTokenInvalid,    ErrorReason::kScopeMissing,
};
static_assert(std::size(kAllReasons) + 1 == kNumErrorReasons);  // and kUnspecified

std::string PayloadText(const absl::Status& status, const char* key) {
  const auto payload = status.GetPayload(key);
  return payload.has_value() ? std::string(*payload) : std::string();
}

}  // namespace

std::string_view ReasonName(ErrorReason reason) {
  switch (reason) {
    case ErrorReason::kUnspecified:
      return "UNSPECIFIED";
    case ErrorReason::kInvalidField:
      return "INVALID_FIELD";
    case ErrorReason::kUnsupported:
      return "UNSUPPORTED";
    case ErrorReason::kContextExceeded:
      return "CONTEXT_EXCEEDED";
    case ErrorReason::kSessionNotFound:
      return "SESSION_NOT_FOUND";
    case ErrorReason::kSessionExpired:
      return "SESSION_EXPIRED";
    case ErrorReason::kSessionBusy:
      return "SESSION_BUSY";
    case ErrorReason::kSessionDeleted:
      return "SESSION_DELETED";
    case ErrorReason::kLengthMismatch:
      return "LENGTH_MISMATCH";
    case ErrorReason::kSessionLimit:
      return "SESSION_LIMIT";
    case ErrorReason::kSessionCorrupt:
      return "SESSION_CORRUPT";
    case ErrorReason::kSessionForeign:
      return "SESSION_FOREIGN";
    case ErrorReason::kQueueFull:
      return "QUEUE_FULL";
    case ErrorReason::kKvExhausted:
      return "KV_EXHAUSTED";
    case ErrorReason::kSlowConsumer:
      return "SLOW_CONSUMER";
    case ErrorReason::kCancelled:
      return "CANCELLED";
    case ErrorReason::kDeadlineExceeded:
      return "DEADLINE_EXCEEDED";
    case ErrorReason::kStorageFull:
      return "STORAGE_FULL";
    case ErrorReason::kStorageFailed:
      return "STORAGE_FAILED";
    case ErrorReason::kReloadFailed:
      return "RELOAD_FAILED";
    case ErrorReason::kStarting:
      return "STARTING";
    case ErrorReason::kDraining:
      return "DRAINING";
    case ErrorReason::kExecutorFailed:
      return "EXECUTOR_FAILED";
    case ErrorReason::kQuotaExceeded:
      return "QUOTA_EXCEEDED";
    case ErrorReason::kTokenMissing:
      return "TOKEN_MISSING";
    case ErrorReason::kTokenInvalid:
      return "TOKEN_INVALID";
    case ErrorReason::kScopeMissing:
      return "SCOPE_MISSING";
  }
  return "UNSPECIFIED";
}

absl::Status MakeError(absl::StatusCode code, ErrorReason reason, std::string_view message) {
  absl::Status status(code, AbslView(message));
  status.SetPayload(kReasonKey, absl::Cord(AbslView(ReasonName(reason))));
  return status;
}

absl::Status FieldError(std::string_view field, std::string_view message) {
  return FieldError(absl::StatusCode::kInvalidArgument, ErrorReason::kInvalidField, field, message);
}

absl::Status FieldError(absl::StatusCode code, ErrorReason reason, std::string_view field, std::string_view message) {
  absl::Status status = MakeError(code, reason, message);
  status.SetPayload(kFieldKey, absl::Cord(AbslView(field)));
  return status;
}

absl::Status ExecutorFailure(const absl::Status& cause) {
  std::string message = "the executor has failed: ";
  message.append(cause.message().data(), cause.message().size());
  return MakeError(absl::StatusCode::kInternal, ErrorReason::kExecutorFailed, message);
}

absl::Status QuotaError(std::string_view tenant, std::string_view message, absl::Duration retry_after) {
  absl::Status status = MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kQuotaExceeded, message);
  status.SetPayload(kTenantKey, absl::Cord(AbslView(tenant)));
  status.SetPayload(kRetryKey, absl::Cord(absl::FormatDuration(retry_after)));
  return status;
}

ErrorReason ReasonOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kReasonKey);
  if (!payload.has_value()) return ErrorReason::kUnspecified;
  for (const ErrorReason reason : kAllReasons) {
    if (*payload == AbslView(ReasonName(reason))) return reason;
  }
  return ErrorReason::kUnspecified;
}

std::string FieldOf(const absl::Status& status) {
  return PayloadText(status, kFieldKey);
}

std::string TenantOf(const absl::Status& status) {
  return PayloadText(status, kTenantKey);
}

absl::Duration RetryAfterOf(const absl::Status& status) {
  absl::Duration duration;
  return absl::ParseDuration(PayloadText(status, kRetryKey), &duration) ? duration : absl::ZeroDuration();
}

}  // namespace megakernel
