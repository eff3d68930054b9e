// What other threads want from the engine thread.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "engine/base/mutex.h"
#include "engine/core/engine_core.h"
#include "engine/core/generation.h"
#include "engine/executor/executor.h"

namespace megakernel {

// A request, or something to do on the engine thread.
using Message = std::variant<std::unique_ptr<Generation>, absl::AnyInvocable<void(EngineCore&)>>;

// Thread-safe; outlives the engine as long as a stream is held that may still be cancelled.
class Inbox {
 public:
  // `executor` is notified when something arrives, until Close.
  Inbox(Executor* executor, std::size_t capacity) : capacity_(capacity), executor_(executor) {}

  // False when full or closed.
  bool Post(Message message) {
    MutexLock lock(&mutex_);
    if (executor_ == nullptr || messages_.size() >= capacity_) return false;
    messages_.push_back(std::move(message));
    executor_->Notify();
    return true;
  }

  // Always taken while open: every generation is cancelled once at most.
  void PostCancel(std::uint64_t generation_id) {
    MutexLock lock(&mutex_);
    if (executor_ == nullptr) return;
    cancels_.push_back(generation_id);
    executor_->Notify();
  }

  // Makes the engine thread go round.
  void Wake() {
    MutexLock lock(&mutex_);
    if (executor_ != nullptr) executor_->Notify();
  }

  // Replaces the vectors by what has come, oldest first. A cancel never comes before its generation.
  void TakeAll(std::vector<Message>& messages, std::vector<std::uint64_t>& cancels) {
    messages.clear();
    cancels.clear();
    MutexLock lock(&mutex_);
    messages_.swap(messages);
    cancels_.swap(cancels);
  }

  // Every later Post fails; what has come stays to be taken. The executor is not touched any more.
  void Close() {
    MutexLock lock(&mutex_);
    executor_ = nullptr;
  }

 private:
  const std::size_t capacity_;
  Mutex mutex_;
  Executor* executor_ ABSL_GUARDED_BY(mutex_);
  std::vector<Message> messages_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::uint64_t> cancels_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace megakernel
