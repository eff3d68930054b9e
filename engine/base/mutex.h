// A lock that can wait for a condition, on the standard library's mutex: the thread sanitizer sees through that, and
// not through the distribution's Abseil, which is not instrumented.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"

namespace megakernel {

// Not recursive. Conditions are looked at when the lock is released, by whoever releases it, and only waiters whose
// condition holds are woken. A condition reads what the lock guards and nothing else.
class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() {
    WakeReady();
    mutex_.unlock();
  }

  // Gives the lock up until `condition()`; it is held again afterwards. REQUIRES: it is held.
  template <typename Condition>
  void Await(const Condition& condition) {
    AwaitWithTimeout(condition, absl::InfiniteDuration());
  }

  // The same for at most `timeout` of real time; returns condition().
  template <typename Condition>
  bool AwaitWithTimeout(const Condition& condition, absl::Duration timeout) {
    if (condition()) return true;
    Waiter waiter{.ready = [](const void* c) { return (*static_cast<const Condition*>(c))(); },
                  .condition = &condition,
                  .next = waiters_};
    WakeReady();  // what the caller changed before it waits
    waiters_ = &waiter;
    std::unique_lock<std::mutex> lock(mutex_, std::adopt_lock);
    if (timeout >= kLongest) {
      waiter.woken.wait(lock, condition);
    } else {
      waiter.woken.wait_for(lock, absl::ToChronoNanoseconds(timeout), condition);
    }
    lock.release();
    Waiter** link = &waiters_;
    while (*link != &waiter) link = &(*link)->next;
    *link = waiter.next;
    return condition();
  }

 private:
  struct Waiter {
    bool (*ready)(const void* condition);
    const void* condition;
    Waiter* next;
    std::condition_variable woken{};
  };
  // As good as for ever, and within what the standard library's clocks can add.
  static constexpr absl::Duration kLongest = absl::Hours(24 * 365);

  void WakeReady() {
    for (Waiter* waiter = waiters_; waiter != nullptr; waiter = waiter->next) {
      if (waiter->ready(waiter->condition)) waiter->woken.notify_one();
    }
  }

  std::mutex mutex_;
  Waiter* waiters_ = nullptr;  // guarded by mutex_
};

// Holds a Mutex for its scope.
class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) { mutex_->Lock(); }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_->Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex* const mutex_;
};

}  // namespace megakernel
