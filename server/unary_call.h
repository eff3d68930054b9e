// A short call whose answer comes from another thread: it is answered once, by whoever is first.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/base/mutex.h"

namespace megakernel {

// gRPC's Server::Shutdown does not return while a callback call is unanswered (grpc/grpc#39114): so one that is
// cancelled, by its client, its deadline or the server's end, is answered at once, and what comes later is dropped.
// Thread-safe. Lives until gRPC is done with it and nobody holds it.
class UnaryCall final : public grpc::ServerUnaryReactor, public std::enable_shared_from_this<UnaryCall> {
 public:
  // `context` is gRPC's; the handler returns reactor().
  static std::shared_ptr<UnaryCall> New(grpc::CallbackServerContext* context) {
    std::shared_ptr<UnaryCall> call(new UnaryCall(context));
    call->self_ = call;
    return call;
  }

  grpc::ServerUnaryReactor* reactor() { return this; }

  // Calls `fill`, which writes the response, if `status` is OK and there is no answer yet; the response must not be
  // touched otherwise.
  void Answer(
      const absl::Status& status, absl::FunctionRef<void()> fill = [] {});

 private:
  explicit UnaryCall(grpc::CallbackServerContext* context) : context_(context) {}
  void OnCancel() override;
  void OnDone() override;

  Mutex mutex_;
  bool answered_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::CallbackServerContext* const context_;  // gone once answered
  std::shared_ptr<UnaryCall> self_;             // gRPC's hold, until OnDone
};

}  // namespace megakernel
