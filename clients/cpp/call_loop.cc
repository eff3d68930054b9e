#include "clients/cpp/call_loop.h"

#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

#include <condition_variable>
#include <mutex>
#include <queue>
#include <thread>
#include <utility>
#include <vector>

#include "clients/cpp/call_scope.h"
#include "clients/cpp/client_stubs.h"

namespace megakernel::client {
namespace {

// What a tag of the completion queue points to.
class Pending {
 public:
  virtual ~Pending() = default;
  // The step in flight has ended. False when it was the last one.
  virtual bool Proceed(bool ok, CallLoop::Clock::time_point now) = 0;
};

class Action final : public Pending {
 public:
  explicit Action(std::function<void()> action) : action_(std::move(action)) {}
  bool Proceed(bool, CallLoop::Clock::time_point) override {
    action_();
    return false;
  }
  grpc::Alarm& alarm() { return alarm_; }

 private:
  const std::function<void()> action_;
  grpc::Alarm alarm_;
};

}  // namespace

// Enters actions into the queue when their time has come: gRPC's own timers know whole milliseconds only.
class CallLoop::Pacer {
 public:
  explicit Pacer(grpc::CompletionQueue& queue) : queue_(queue), thread_([this] { Work(); }) {}
  ~Pacer() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  void Add(Clock::time_point when, Action* action) {
    {
      const std::lock_guard lock(mutex_);
      waiting_.push({when, action});
    }
    changed_.notify_one();
  }

 private:
  using Entry = std::pair<Clock::time_point, Action*>;

  void Work() {
    std::unique_lock lock(mutex_);
    while (!ending_) {
      if (waiting_.empty()) {
        changed_.wait(lock);
      } else if (const Entry next = waiting_.top(); next.first > Clock::now()) {
        changed_.wait_until(lock, next.first);
      } else {
        waiting_.pop();
        next.second->alarm().Set(&queue_, gpr_time_0(GPR_CLOCK_MONOTONIC), static_cast<Pending*>(next.second));
      }
    }
  }

  grpc::CompletionQueue& queue_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> waiting_;
  bool ending_ = false;
  std::thread thread_;
};

struct CallLoop::State {
  grpc::CompletionQueue queue;
  std::size_t open = 0;  // calls and actions
  Pacer pacer{queue};
};

class CallLoop::StreamedCall final : public Pending {
 public:
  StreamedCall(CallLoop& loop, Client& client, const v1::GenerateRequest& request, const CallOptions& options,
               Handlers handlers)
      : loop_(loop), handlers_(std::move(handlers)), scope_(options) {
    reader_ = client.stubs_->inference->AsyncGenerate(scope_.context(), request, &loop.state_->queue,
                                                      static_cast<Pending*>(this));
  }

  bool Proceed(bool ok, Clock::time_point now) override {
    if (finishing_) {
      handlers_.on_done(FromStatus(status_), now);
      return false;
    }
    if (!ok) {
      finishing_ = true;
      reader_->Finish(&status_, static_cast<Pending*>(this));
      return true;
    }
    const bool message = std::exchange(reading_, true);
    if (message && !cancelled_ && !handlers_.on_response(response_, now)) {
      cancelled_ = true;
      scope_.context()->TryCancel();
    }
    if (message && !cancelled_ && handlers_.read_delay > Clock::duration::zero()) {
      loop_.At(now + handlers_.read_delay, [this] { Read(); });
    } else {
      Read();
    }
    return true;
  }

 private:
  void Read() { reader_->Read(&response_, static_cast<Pending*>(this)); }

  CallLoop& loop_;
  Handlers handlers_;  // may own what cancels the call, so it goes after the call
  CallScope scope_;
  std::unique_ptr<grpc::ClientAsyncReader<v1::GenerateResponse>> reader_;
  v1::GenerateResponse response_;
  grpc::Status status_;
  bool reading_ = false;  // a read, and not the start, is in flight
  bool cancelled_ = false;
  bool finishing_ = false;
};

template <typename Response>
class CallLoop::ShortCall final : public Pending {
 public:
  using OnDone = std::function<void(const grpc::Status&, const Response&)>;

  // `start` makes gRPC's reader of the answer.
  template <typename Start>
  ShortCall(const CallOptions& options, Start start, OnDone on_done) : on_done_(std::move(on_done)), scope_(options) {
    reader_ = start(scope_.context());
    reader_->Finish(&response_, &status_, static_cast<Pending*>(this));
  }
  bool Proceed(bool, Clock::time_point) override {
    on_done_(status_, response_);
    return false;
  }

 private:
  const OnDone on_done_;
  CallScope scope_;
  std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> reader_;
  Response response_;
  grpc::Status status_;
};

CallLoop::CallLoop() : state_(std::make_unique<State>()) {}

CallLoop::~CallLoop() {
  state_->queue.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (state_->queue.Next(&tag, &ok)) {
  }
}

void CallLoop::Generate(Client& client, const v1::GenerateRequest& request, const CallOptions& options,
                        Handlers handlers) {
  ++state_->open;
  new StreamedCall(*this, client, request, options, std::move(handlers));  // deleted by Run
}

void CallLoop::CreateSession(Client& client, const CallOptions& options,
                             std::function<void(Result<v1::Session>)> on_done) {
  ++state_->open;
  new ShortCall<v1::CreateSessionResponse>(
      options,
      [&](grpc::ClientContext* context) {
        return client.stubs_->sessions->AsyncCreateSession(context, v1::CreateSessionRequest(), &state_->queue);
      },
      [on_done = std::move(on_done)](const grpc::Status& status, const v1::CreateSessionResponse& response) {
        if (status.ok()) {
          on_done(response.session());
        } else {
          on_done(FromStatus(status));
        }
      });
}

void CallLoop::DeleteSession(Client& client, const std::string& session_id, const CallOptions& options,
                             std::function<void(const Error&)> on_done) {
  ++state_->open;
  v1::DeleteSessionRequest request;
  request.set_session_id(session_id);
  new ShortCall<v1::DeleteSessionResponse>(
      options,
      [&](grpc::ClientContext* context) {
        return client.stubs_->sessions->AsyncDeleteSession(context, request, &state_->queue);
      },
      [on_done = std::move(on_done)](const grpc::Status& status, const v1::DeleteSessionResponse&) {
        on_done(FromStatus(status));
      });
}

void CallLoop::At(Clock::time_point when, std::function<void()> action) {
  ++state_->open;
  state_->pacer.Add(when, new Action(std::move(action)));  // deleted by Run
}

void CallLoop::Run() {
  void* tag = nullptr;
  bool ok = false;
  while (state_->open > 0 && state_->queue.Next(&tag, &ok)) {
    auto* pending = static_cast<Pending*>(tag);
    if (pending->Proceed(ok, Clock::now())) continue;
    delete pending;
    --state_->open;
  }
}

}  // namespace megakernel::client
