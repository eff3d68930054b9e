// The one thread that runs the streaming calls: it takes what gRPC has completed and writes what the engine has
// produced.
//
// One thread on purpose. The tokens of a step come for many streams at once; one thread writes them all and takes what
// has completed in between, so nothing is woken for each of them, and a connection's sockets send them in one piece.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "engine/base/mutex.h"
#include "server/corked_connections.h"
#include "server/pump.h"

namespace megakernel {

// Thread-safe, unless said otherwise.
class StreamLoop final : public Pump {
 public:
  // What is started on queue() with its address as the tag.
  class Operation {
   public:
    virtual ~Operation() = default;
    // On the loop's thread. `ok` as gRPC means it for the operation.
    virtual void Completed(bool ok) = 0;
  };

  // `tick` is called on the loop's thread every half a second; it does not wait.
  StreamLoop(std::unique_ptr<grpc::ServerCompletionQueue> queue, std::function<void()> tick);
  // Stop().
  ~StreamLoop() override;
  StreamLoop(const StreamLoop&) = delete;
  StreamLoop& operator=(const StreamLoop&) = delete;

  // After the gRPC server has started.
  void Start();
  // After the gRPC server's shutdown: completes what is left, then joins. Idempotent. Not for two threads at once.
  void Stop();

  grpc::ServerCompletionQueue* queue() { return queue_.get(); }
  // Loop's thread only: no new call may be asked for.
  bool stopping() const;
  CorkedConnections& connections() { return connections_; }  // loop's thread only

  void Enter(std::shared_ptr<Pumped> call) override;

 private:
  class Wake final : public Operation {
   public:
    explicit Wake(StreamLoop& loop) : loop_(loop) {}
    void Completed(bool) override { loop_.TakeEntered(); }

   private:
    StreamLoop& loop_;
  };

  class Tick final : public Operation {
   public:
    explicit Tick(StreamLoop& loop) : loop_(loop) {}
    void Completed(bool) override {
      loop_.tick_();
      loop_.SetTick();
    }

   private:
    StreamLoop& loop_;
  };

  void SetTick();
  void Run();
  // Runs the next completion, if one comes until `deadline`.
  grpc::CompletionQueue::NextStatus TakeCompletion(gpr_timespec deadline);
  void TakeEntered();
  // Writes for the next calls that entered, up to kMaxTogether. False when the queue has shut down.
  bool PumpSome();

  const std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  const std::function<void()> tick_;
  Wake wake_;
  Tick tick_operation_;
  grpc::Alarm alarm_;  // set by the thread that turned woken_ to true

  mutable Mutex mutex_;
  grpc::Alarm tick_alarm_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Pumped>> entered_ ABSL_GUARDED_BY(mutex_);
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;  // the loop will look at entered_
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // Loop's thread only.
  std::deque<std::shared_ptr<Pumped>> waiting_;
  CorkedConnections connections_;

  std::thread thread_;
};

}  // namespace megakernel
