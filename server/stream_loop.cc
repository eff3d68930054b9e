#include "server/stream_loop.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/time/time.h"
#include "server/grpc_time.h"

namespace megakernel {
namespace {

// Calls whose messages leave together. Half as many wake the client twice as often and cost a tenth more processor time
// at 64 streams (tests/bench/serve.cc).
constexpr std::size_t kMaxTogether = 64;
constexpr absl::Duration kTick = absl::Milliseconds(500);

}  // namespace

StreamLoop::StreamLoop(std::unique_ptr<grpc::ServerCompletionQueue> queue, std::function<void()> tick)
    : queue_(std::move(queue)), tick_(std::move(tick)), wake_(*this), tick_operation_(*this) {}

StreamLoop::~StreamLoop() {
  Stop();
}

void StreamLoop::Start() {
  SetTick();
  thread_ = std::thread([this] { Run(); });
}

void StreamLoop::Stop() {
  {
    MutexLock lock(&mutex_);
    if (std::exchange(stopping_, true)) return;
    tick_alarm_.Cancel();
    queue_->Shutdown();
  }
  if (thread_.joinable()) return thread_.join();
  Run();  // gRPC wants its queue empty
}

void StreamLoop::SetTick() {
  MutexLock lock(&mutex_);
  if (!stopping_) tick_alarm_.Set(queue_.get(), GrpcTimeIn(kTick), &tick_operation_);
}

bool StreamLoop::stopping() const {
  MutexLock lock(&mutex_);
  return stopping_;
}

void StreamLoop::Enter(std::shared_ptr<Pumped> call) {
  {
    MutexLock lock(&mutex_);
    if (stopping_) return;
    entered_.push_back(std::move(call));
    if (std::exchange(woken_, true)) return;
  }
  alarm_.Set(queue_.get(), gpr_inf_past(GPR_CLOCK_REALTIME), &wake_);
}

void StreamLoop::Run() {
  for (;;) {
    if (!waiting_.empty() && !PumpSome()) return;
    const bool more = !waiting_.empty();
    grpc::CompletionQueue::NextStatus status;
    do {
      status = TakeCompletion(more ? gpr_inf_past(GPR_CLOCK_REALTIME) : gpr_inf_future(GPR_CLOCK_REALTIME));
      if (status == grpc::CompletionQueue::SHUTDOWN) return;
    } while (more && status == grpc::CompletionQueue::GOT_EVENT);
  }
}

grpc::CompletionQueue::NextStatus StreamLoop::TakeCompletion(gpr_timespec deadline) {
  void* tag = nullptr;
  bool ok = false;
  const grpc::CompletionQueue::NextStatus status = queue_->AsyncNext(&tag, &ok, deadline);
  if (status == grpc::CompletionQueue::GOT_EVENT) static_cast<Operation*>(tag)->Completed(ok);
  return status;
}

void StreamLoop::TakeEntered() {
  MutexLock lock(&mutex_);
  waiting_.insert(waiting_.end(), std::make_move_iterator(entered_.begin()), std::make_move_iterator(entered_.end()));
  entered_.clear();
  woken_ = false;
}

bool StreamLoop::PumpSome() {
  // Calls that enter meanwhile come after these: a corked connection does not wait for them.
  std::size_t count = std::min(waiting_.size(), kMaxTogether);
  const bool cork = count > 1;
  bool open = true;
  if (cork) connections_.Cork();
  for (; open && count > 0; --count) {
    const std::shared_ptr<Pumped> call = std::move(waiting_.front());
    waiting_.pop_front();
    call->PumpTokens();
    // gRPC has mostly accepted the message by now: what waits for that does not wait for the other calls' messages too.
    open = TakeCompletion(gpr_inf_past(GPR_CLOCK_REALTIME)) != grpc::CompletionQueue::SHUTDOWN;
  }
  if (cork) connections_.Uncork();
  return open;
}

}  // namespace megakernel
