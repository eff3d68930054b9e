// A few threads for work that is too long for a gRPC or engine thread: encoding long prompts.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "engine/base/mutex.h"

namespace megakernel {

// Thread-safe. Tasks run in the order of posting, on any of the threads.
class TaskPool {
 public:
  explicit TaskPool(int num_threads);
  // Finish().
  ~TaskPool();
  TaskPool(const TaskPool&) = delete;
  TaskPool& operator=(const TaskPool&) = delete;

  void Post(std::function<void()> task);
  // Runs what was posted, then joins the threads. Idempotent; not for two threads at once.
  void Finish();

 private:
  void Work();

  Mutex mutex_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace megakernel
