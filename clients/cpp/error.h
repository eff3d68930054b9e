// What went wrong in a call, for programs (code, reason, field) and for people (message, hint).
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace megakernel::client {

// The outcome of a call. A default-constructed Error is success. Plain data.
struct Error {
  // The gRPC status code; the numbers of absl and gRPC are the same.
  absl::StatusCode code = absl::StatusCode::kOk;
  // Stable, UPPER_SNAKE_CASE, as the server's ErrorInfo says it ("SESSION_EXPIRED"). Empty if the server sent none.
  std::string reason;
  // Path of the request field at fault ("sampling.top_p"), from the server's BadRequest. Empty if there is none.
  std::string field;
  // What happened.
  std::string message;
  // What to do about it, one or two sentences. Never empty when the call failed.
  std::string hint;
  // How long to wait before trying again, from the server's RetryInfo. Zero if it did not say.
  absl::Duration retry_after = absl::ZeroDuration();

  bool ok() const { return code == absl::StatusCode::kOk; }
};

// "NOT_FOUND (SESSION_EXPIRED): message". Without the hint; "OK" for success.
std::string Describe(const Error& error);

// What to do about a failure with this code and reason. Known reasons have advice of their own, others get that of the
// code.
std::string HintFor(absl::StatusCode code, const std::string& reason, const std::string& field);

// Makes an error of this library's own, with its hint.
Error MakeError(absl::StatusCode code, std::string message);

// A value, or the error that took its place.
template <typename T>
class Result {
 public:
  Result(T value) : value_(std::move(value)) {}      // NOLINT: a value is a result
  Result(Error error) : error_(std::move(error)) {}  // NOLINT: so is an error. REQUIRES: !error.ok()

  bool ok() const { return value_.has_value(); }
  const Error& error() const { return error_; }
  // REQUIRES: ok().
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T value() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Error error_;
};

}  // namespace megakernel::client
