#include "server/unary_call.h"

#include <utility>

#include "server/grpc_status.h"

namespace megakernel {

void UnaryCall::Answer(const absl::Status& status, absl::FunctionRef<void()> fill) {
  const std::shared_ptr<UnaryCall> hold = shared_from_this();  // Finish may lead to OnDone
  MutexLock lock(&mutex_);
  if (std::exchange(answered_, true)) return;
  if (status.ok()) fill();
  Finish(ToGrpcStatus(status, *context_));
}

void UnaryCall::OnCancel() {
  Answer(absl::CancelledError("the call was cancelled"));
}

void UnaryCall::OnDone() {
  const std::shared_ptr<UnaryCall> last = std::move(self_);
}

}  // namespace megakernel
