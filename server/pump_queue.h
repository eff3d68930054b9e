// Where calls wait for a thread that takes their tokens from the engine and writes them.
//
// The engine's thread only enters a call here, so a write that takes long costs the other streams nothing. Two threads
// share the work on purpose: while one is inside the kernel with a connection's bytes, gRPC queues what the other
// writes on the same connection, and it goes out in one piece.
#pragma once

#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "engine/base/mutex.h"

namespace megakernel {

class Pumped {
 public:
  virtual ~Pumped() = default;
  // Writes what there is. Does not wait.
  virtual void PumpTokens() = 0;
};

// Thread-safe.
class PumpQueue {
 public:
  explicit PumpQueue(int num_threads);
  // Pumps what was entered, then joins.
  ~PumpQueue();
  PumpQueue(const PumpQueue&) = delete;
  PumpQueue& operator=(const PumpQueue&) = delete;

  // In order of entering. Does not wait.
  void Enter(std::shared_ptr<Pumped> call);

 private:
  void Work();

  Mutex mutex_;
  std::deque<std::shared_ptr<Pumped>> calls_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace megakernel
