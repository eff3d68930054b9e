#include "clients/cpp/call_scope.h"

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace megakernel::client {

void CancelToken::Cancel() {
  absl::MutexLock lock(&mutex_);
  cancelled_ = true;
  for (grpc::ClientContext* context : contexts_) context->TryCancel();
}

bool CancelToken::cancelled() const {
  absl::MutexLock lock(&mutex_);
  return cancelled_;
}

void CancelToken::Attach(grpc::ClientContext* context) {
  absl::MutexLock lock(&mutex_);
  contexts_.insert(context);
  if (cancelled_) context->TryCancel();  // before the call starts: gRPC then ends it as it starts
}

void CancelToken::Detach(grpc::ClientContext* context) {
  absl::MutexLock lock(&mutex_);
  contexts_.erase(context);
}

CallScope::CallScope(const CallOptions& options) : cancel_(options.cancel) {
  if (options.timeout != absl::InfiniteDuration()) {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + options.timeout));
  }
  if (cancel_ != nullptr) cancel_->Attach(&context_);
}

CallScope::~CallScope() {
  if (cancel_ != nullptr) cancel_->Detach(&context_);
}

Error FromStatus(const grpc::Status& status) {
  Error error;
  if (status.ok()) return error;
  error.code = static_cast<absl::StatusCode>(status.error_code());
  error.message = status.error_message();
  google::rpc::Status details;
  if (details.ParseFromString(status.error_details())) {
    for (const auto& detail : details.details()) {
      google::rpc::ErrorInfo info;
      google::rpc::BadRequest bad_request;
      google::rpc::RetryInfo retry;
      if (detail.UnpackTo(&info)) {
        error.reason = info.reason();
      } else if (detail.UnpackTo(&bad_request) && bad_request.field_violations_size() > 0) {
        error.field = bad_request.field_violations(0).field();
      } else if (detail.UnpackTo(&retry)) {
        error.retry_after =
            absl::Seconds(retry.retry_delay().seconds()) + absl::Nanoseconds(retry.retry_delay().nanos());
      }
    }
  }
  error.hint = HintFor(error.code, error.reason, error.field);
  return error;
}

Error FromOperation(const v1::OperationError& operation) {
  Error error;
  error.code = static_cast<absl::StatusCode>(operation.code());
  error.reason = operation.reason();
  error.field = operation.field();
  error.message = operation.message();
  error.hint = HintFor(error.code, error.reason, error.field);
  return error;
}

}  // namespace megakernel::client
