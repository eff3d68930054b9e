#include "server/stream_loop.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

namespace megakernel {
namespace {

// Calls that are written for before the loop looks at what has completed. Half as many wake the client twice as often
// and cost a tenth more processor time at 64 streams (tests/bench/serve.cc).
constexpr std::size_t kMaxPumped = 64;
constexpr std::chrono::milliseconds kTick(500);

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
  if (!stopping_) tick_alarm_.Set(queue_.get(), std::chrono::system_clock::now() + kTick, &tick_operation_);
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
  const gpr_timespec at_once = gpr_inf_past(GPR_CLOCK_REALTIME);
  const gpr_timespec ever = gpr_inf_future(GPR_CLOCK_REALTIME);
  for (;;) {
    const bool more = PumpSome();
    void* tag = nullptr;
    bool ok = false;
    grpc::CompletionQueue::NextStatus status;
    do {
      status = queue_->AsyncNext(&tag, &ok, more ? at_once : ever);
      if (status == grpc::CompletionQueue::SHUTDOWN) return;
      if (status == grpc::CompletionQueue::GOT_EVENT) static_cast<Operation*>(tag)->Completed(ok);
    } while (more && status == grpc::CompletionQueue::GOT_EVENT);
  }
}

void StreamLoop::TakeEntered() {
  MutexLock lock(&mutex_);
  if (next_ == batch_.size()) {
    batch_.clear();
    next_ = 0;
  }
  batch_.insert(batch_.end(), std::make_move_iterator(entered_.begin()), std::make_move_iterator(entered_.end()));
  entered_.clear();
  woken_ = false;
}

bool StreamLoop::PumpSome() {
  const std::size_t end = std::min(batch_.size(), next_ + kMaxPumped);
  if (next_ == end) return false;
  const bool cork = end - next_ > 1;
  if (cork) connections_.Cork();
  for (; next_ < end; ++next_) std::exchange(batch_[next_], nullptr)->PumpTokens();
  if (cork) connections_.Uncork();
  return next_ < batch_.size();
}

}  // namespace megakernel
