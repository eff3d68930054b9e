// A queue from many threads to one, with a limit. The consumer takes everything at once, so that its cost is one lock
// however much waits.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace megakernel {

// Thread-safe. FIFO.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(std::size_t capacity) : capacity_(capacity) {}

  // False, and `item` untouched, when full or closed.
  bool Push(T&& item) {
    absl::MutexLock lock(&mutex_);
    if (closed_ || items_.size() >= capacity_) return false;
    items_.push_back(std::move(item));
    return true;
  }

  // Replaces `items` by what waits, oldest first. Keeps the vector's memory in circulation: nothing is allocated once
  // both sides have grown.
  void TakeAll(std::vector<T>& items) {
    items.clear();
    absl::MutexLock lock(&mutex_);
    items_.swap(items);
  }

  // Every later Push fails; what was pushed before stays to be taken.
  void Close() {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
  }

 private:
  const std::size_t capacity_;
  absl::Mutex mutex_;
  std::vector<T> items_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace megakernel
