// Many calls at the same time on one thread: for programs that drive load and measure when each message comes.
//
//   CallLoop loop;
//   loop.Generate(client, request, {}, {.on_response = ..., .on_done = ...});
//   loop.At(CallLoop::Clock::now() + 20ms, [&] { ... });
//   loop.Run();
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "clients/cpp/call_options.h"
#include "clients/cpp/client.h"
#include "clients/cpp/error.h"
#include "megakernel/v1/inference_service.pb.h"
#include "megakernel/v1/session_service.pb.h"

namespace megakernel::client {

// Not thread-safe: everything, callbacks included, happens on the thread that is in Run, or before it.
class CallLoop {
 public:
  using Clock = std::chrono::steady_clock;

  // What a call does when something comes. `on_done` is called exactly once, last.
  struct Handlers {
    // A message and when it was received. Returning false cancels the call; what still comes is not shown.
    std::function<bool(const v1::GenerateResponse&, Clock::time_point received)> on_response;
    std::function<void(const Error&, Clock::time_point ended)> on_done;
    // Waits this long before it takes the next message: a slow reader. Default: takes them as they come.
    Clock::duration read_delay = Clock::duration::zero();
  };

  CallLoop();
  // REQUIRES: Run has returned, or nothing was started.
  ~CallLoop();
  CallLoop(const CallLoop&) = delete;
  CallLoop& operator=(const CallLoop&) = delete;

  // Each starts one call on the connection of `client`, which outlives it.
  void Generate(Client& client, const v1::GenerateRequest& request, const CallOptions& options, Handlers handlers);
  void CreateSession(Client& client, const CallOptions& options, std::function<void(Result<v1::Session>)> on_done);
  void DeleteSession(Client& client, const std::string& session_id, const CallOptions& options,
                     std::function<void(const Error&)> on_done);

  // Calls `action` at `when`, late by some 0.1 ms on a machine that is not busy.
  void At(Clock::time_point when, std::function<void()> action);

  // Returns when no call runs and no action waits.
  void Run();

 private:
  struct State;
  class Pacer;
  class StreamedCall;
  template <typename Response>
  class ShortCall;

  const std::unique_ptr<State> state_;
};

}  // namespace megakernel::client
