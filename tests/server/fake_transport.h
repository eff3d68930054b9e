// A network in memory for the calls' state machines: keeps what is sent, checks the rules of gRPC's streams, and
// answers on a thread of its own, as gRPC does.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "engine/base/check.h"
#include "engine/base/mutex.h"
#include "server/pump.h"
#include "server/stream_transport.h"

namespace megakernel::testing {

// Runs what it is given, in order, on one thread; in place of the server's loop, too.
class Loop final : public Pump {
 public:
  Loop() : thread_([this] { Run(); }) {}
  ~Loop() override {
    Post({});
    thread_.join();
  }
  void Post(std::function<void()> task) {
    MutexLock lock(&mutex_);
    tasks_.push_back(std::move(task));
  }
  void Enter(std::shared_ptr<Pumped> call) override {
    Post([call = std::move(call)] { call->PumpTokens(); });
  }

 private:
  void Run() {
    for (;;) {
      std::function<void()> task;
      {
        const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !tasks_.empty(); };
        MutexLock lock(&mutex_);
        mutex_.Await(ready);
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      if (!task) return;
      task();
    }
  }

  Mutex mutex_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

// Breaking a rule (two writes at once, anything after the status) ends the program.
template <typename Call, typename Request, typename Response>
class FakeTransport final : public DuplexTransport<Request, Response> {
 public:
  // `call` is set before anything is sent.
  explicit FakeTransport(Loop& loop) : loop_(loop) {}
  void Attach(Call* call) { call_ = call; }

  void StartWrite(const Response& message, bool) override {
    MutexLock lock(&mutex_);
    MK_CHECK(!writing_ && !status_);
    writing_ = true;
    received_.push_back(message);
    loop_.Post([this] { WriteDone(); });
  }
  void StartWriteAndFinish(const Response& message) override {
    MutexLock lock(&mutex_);
    MK_CHECK(!writing_ && !status_);
    received_.push_back(message);
    status_ = absl::OkStatus();
    loop_.Post([this] { Done(); });
  }
  void Finish(const absl::Status& status) override {
    MutexLock lock(&mutex_);
    MK_CHECK(!writing_ && !status_);
    status_ = status;
    loop_.Post([this] { Done(); });
  }
  void StartRead(Request&) override {}

  // Blocks until the call's OnDone has returned.
  absl::Status AwaitDone() {
    MutexLock lock(&mutex_);
    mutex_.Await([this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return done_; });
    return *status_;
  }
  std::vector<Response> received() {
    MutexLock lock(&mutex_);
    return received_;
  }
  // The client goes after this many messages; the write in flight then fails.
  void BreakAfter(std::size_t messages) {
    MutexLock lock(&mutex_);
    break_after_ = messages;
  }

 private:
  void WriteDone() {
    bool broken;
    {
      MutexLock lock(&mutex_);
      writing_ = false;
      broken = break_after_ && received_.size() >= *break_after_;
    }
    if (broken) call_->OnCancel();
    call_->OnWriteDone(!broken);
  }
  void Done() {
    call_->OnDone();
    MutexLock lock(&mutex_);
    done_ = true;
  }

  Loop& loop_;
  Call* call_ = nullptr;
  Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<std::size_t> break_after_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> status_ ABSL_GUARDED_BY(mutex_);
  std::vector<Response> received_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace megakernel::testing
