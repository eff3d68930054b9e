#include "server/pump_queue.h"

#include <utility>

namespace megakernel {

PumpQueue::PumpQueue(int num_threads) {
  for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Work(); });
}

PumpQueue::~PumpQueue() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    entered_.SignalAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void PumpQueue::Enter(std::shared_ptr<Pumped> call) {
  absl::MutexLock lock(&mutex_);
  calls_.push_back(std::move(call));
  if (waiting_ > 0) entered_.Signal();
}

void PumpQueue::Work() {
  for (;;) {
    std::shared_ptr<Pumped> call;
    {
      absl::MutexLock lock(&mutex_);
      while (calls_.empty() && !stopping_) {
        ++waiting_;
        entered_.Wait(&mutex_);
        --waiting_;
      }
      if (calls_.empty()) return;
      call = std::move(calls_.front());
      calls_.pop_front();
    }
    call->PumpTokens();
  }
}

}  // namespace megakernel
