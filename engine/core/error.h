// Why the engine refused or ended something, in a form that outlives the wording of messages.
//
// Every error that leaves the engine is an absl::Status whose payload names its reason and, where one is to blame, the
// field of the request. The server maps them to gRPC in one place.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace megakernel {

enum class ErrorReason {
  kUnspecified,
  kInvalidField,      // InvalidArgument: a value out of range; FieldOf() names it
  kUnsupported,       // Unimplemented: the executor lacks the feature; FieldOf() names it
  kContextExceeded,   // InvalidArgument: prompt, max_tokens or both do not fit; the message has both numbers
  kSessionNotFound,   // NotFound: never existed, was deleted, or belongs to another tenant
  kSessionExpired,    // NotFound: was idle for longer than the time to live
  kSessionBusy,       // Aborted: another operation runs on it
  kSessionDeleted,    // Aborted: deleted while this operation waited or ran
  kLengthMismatch,    // Aborted: expected_length is not the session's length; the message has both
  kSessionLimit,      // ResourceExhausted: as many sessions as the engine holds
  kSessionCorrupt,    // DataLoss: a saved session's file is damaged
  kStorageFull,       // ResourceExhausted: no room on the disk to save a session
  kStorageFailed,     // Internal: the disk refuses for another reason
  kSessionForeign,    // FailedPrecondition: a saved session of another model, page format or tenant
  kQueueFull,         // ResourceExhausted: the message has the queue's length
  kKvExhausted,       // ResourceExhausted: no pages, and none to take back
  kSlowConsumer,      // ResourceExhausted: the stream's buffer ran over
  kCancelled,         // Cancelled: by the consumer
  kDeadlineExceeded,  // DeadlineExceeded
  kReloadFailed,      // FailedPrecondition: a part of the configuration cannot be read again
  kStarting,          // Unavailable: the model is not loaded yet
  kDraining,          // Unavailable: shutting down
  kExecutorFailed,    // Internal: the executor is broken, so is every stream
  kQuotaExceeded,     // ResourceExhausted: the tenant has used what it may; TenantOf() and RetryAfterOf() say more
  kTokenMissing,      // Unauthenticated: the call carries no bearer token
  kTokenInvalid,      // Unauthenticated: the server does not know the token, or there are several
  kScopeMissing,      // PermissionDenied: the token does not allow this
};
inline constexpr std::size_t kNumErrorReasons = 27;

// "SESSION_NOT_FOUND" and so on: stable, part of the API.
std::string_view ReasonName(ErrorReason reason);

absl::Status MakeError(absl::StatusCode code, ErrorReason reason, std::string_view message);

// InvalidArgument with kInvalidField. `field` is the path in the request as the API spells it: "sampling.top_p".
absl::Status FieldError(std::string_view field, std::string_view message);

// The same with another code and reason.
absl::Status FieldError(absl::StatusCode code, ErrorReason reason, std::string_view field, std::string_view message);

// Internal with kExecutorFailed, for what the executor reported or was found to do.
absl::Status ExecutorFailure(const absl::Status& cause);

// ResourceExhausted with kQuotaExceeded. `retry_after`: when trying again may help; InfiniteDuration: it will not.
absl::Status QuotaError(std::string_view tenant, std::string_view message, absl::Duration retry_after);

// kUnspecified, or an empty string, when the status carries none.
ErrorReason ReasonOf(const absl::Status& status);
std::string FieldOf(const absl::Status& status);
// Of QuotaError; empty, and zero, for every other.
std::string TenantOf(const absl::Status& status);
absl::Duration RetryAfterOf(const absl::Status& status);

}  // namespace megakernel
