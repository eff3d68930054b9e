#include "server/pump_queue.h"

#include <utility>

namespace megakernel {

PumpQueue::PumpQueue(int num_threads) {
  for (int i = 0; i < num_threads; ++i) threads_.emplace_back([this] { Work(); });
}

PumpQueue::~PumpQueue() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

void PumpQueue::Enter(std::shared_ptr<Pumped> call) {
  MutexLock lock(&mutex_);
  calls_.push_back(std::move(call));
}

void PumpQueue::Work() {
  const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || !calls_.empty(); };
  for (;;) {
    std::shared_ptr<Pumped> call;
    {
      MutexLock lock(&mutex_);
      mutex_.Await(ready);
      if (calls_.empty()) return;
      call = std::move(calls_.front());
      calls_.pop_front();
    }
    call->PumpTokens();
  }
}

}  // namespace megakernel
