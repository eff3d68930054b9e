// A network in memory for the calls' state machines: keeps what is sent, checks the rules of gRPC's streams, and
// answers on a thread of its own, as gRPC does.
#pragma once

#include <deque>
#include <functional>
#include <latch>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
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
  enum class Runs { kByItself, kWhenTold };

  // Told: what is posted runs in RunOne and Flush only, which are for one thread.
  explicit Loop(Runs runs = Runs::kByItself) {
    if (runs == Runs::kByItself) thread_ = std::thread([this] { Run(); });
  }
  ~Loop() override {
    if (!thread_.joinable()) return;
    Post({});
    thread_.join();
  }
  void Post(std::function<void()> task) {
    MutexLock lock(&mutex_);
    tasks_.push_back(std::move(task));
  }
  // Waits until what was posted so far has run. Not from the loop's own thread.
  void Flush() {
    std::latch flushed(1);
    Post([&] { flushed.count_down(); });
    while (!thread_.joinable() && !flushed.try_wait()) RunOne();
    flushed.wait();
  }
  // Waits for a task and runs it; false when it was the last of all.
  bool RunOne() {
    std::function<void()> task;
    {
      const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !tasks_.empty(); };
      MutexLock lock(&mutex_);
      mutex_.Await(ready);
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    if (!task) return false;
    task();
    return true;
  }
  void Enter(std::shared_ptr<Pumped> call) override {
    Post([call = std::move(call)] { call->PumpTokens(); });
  }

 private:
  void Run() {
    while (RunOne()) {
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
  explicit FakeTransport(Loop& loop) : loop_(loop) {}
  ~FakeTransport() override { loop_.Flush(); }
  // Before anything is sent. Held until its OnDone.
  void Attach(std::shared_ptr<Call> call) { call_ = std::move(call); }

  void StartWrite(const Response& message, bool) override {
    MutexLock lock(&mutex_);
    MK_CHECK(!writing_ && !status_);
    writing_ = true;
    received_.push_back(message);
    if (!held_) loop_.Post([this] { WriteDone(); });
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
    // Its own, as over a network: Abseil's code that counts who shares one is not instrumented.
    status_ = absl::Status(status.code(), status.message());
    loop_.Post([this] { Done(); });
  }
  void Abort() override {
    MutexLock lock(&mutex_);
    break_after_ = 0;
    if (writing_) {
      loop_.Post([this] { WriteDone(); });
    } else {
      loop_.Post([this] {
        if (call_ != nullptr) call_->OnCancel();
      });
    }
  }
  void StartRead(Request& message) override {
    MutexLock lock(&mutex_);
    MK_CHECK(incoming_ == nullptr);
    incoming_ = &message;
    loop_.Post([this] { Deliver(); });
  }

  // The client's side: messages, then the end of its sending.
  void Send(const Request& message) {
    MutexLock lock(&mutex_);
    sent_.push_back(message);
    loop_.Post([this] { Deliver(); });
  }
  void CloseSending() {
    MutexLock lock(&mutex_);
    sending_closed_ = true;
    loop_.Post([this] { Deliver(); });
  }
  // The client goes.
  void Break() {
    loop_.Post([this] {
      if (call_ != nullptr) call_->OnCancel();
    });
  }
  // While held, a write that was started does not end: a client that does not read.
  void HoldWrites(bool held) {
    MutexLock lock(&mutex_);
    held_ = held;
    if (!held && writing_) loop_.Post([this] { WriteDone(); });
  }

  // Blocks until `count` messages were sent, or the status.
  std::vector<Response> AwaitReceived(std::size_t count) {
    MutexLock lock(&mutex_);
    mutex_.Await([&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return received_.size() >= count || status_; });
    return received_;
  }
  // Blocks until the call's OnDone has returned.
  absl::Status AwaitDone() {
    MutexLock lock(&mutex_);
    mutex_.Await([this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return done_; });
    return *status_;
  }
  // Whether OnDone has returned, and then, with which status the call ended.
  std::optional<absl::Status> done() {
    MutexLock lock(&mutex_);
    return done_ ? status_ : std::nullopt;
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
  // Gives the read that waits what has been sent, in order.
  void Deliver() {
    bool ok;
    {
      MutexLock lock(&mutex_);
      if (incoming_ == nullptr || (sent_.empty() && !sending_closed_)) return;
      ok = !sent_.empty();
      if (ok) {
        *incoming_ = std::move(sent_.front());
        sent_.pop_front();
      }
      incoming_ = nullptr;
    }
    if constexpr (requires(Call & call) { call.OnReadDone(true); }) call_->OnReadDone(ok);
  }
  // A read that waits fails first.
  void Done() {
    bool reading;
    {
      MutexLock lock(&mutex_);
      reading = std::exchange(incoming_, nullptr) != nullptr;
    }
    if constexpr (requires(Call & call) { call.OnReadDone(false); }) {
      if (reading) call_->OnReadDone(false);
    }
    call_->OnDone();
    call_ = nullptr;
    MutexLock lock(&mutex_);
    done_ = true;
  }

  Loop& loop_;
  std::shared_ptr<Call> call_;
  Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  Request* incoming_ ABSL_GUARDED_BY(mutex_) = nullptr;  // the read that waits
  std::deque<Request> sent_ ABSL_GUARDED_BY(mutex_);
  bool sending_closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<std::size_t> break_after_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> status_ ABSL_GUARDED_BY(mutex_);
  std::vector<Response> received_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace megakernel::testing
