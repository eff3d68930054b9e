// A server in this process that speaks megakernel.v1 and can be told to misbehave: for tests of the client library.
//
// It has no model. The "tokens" of a text are its characters; a reply to a prompt of n tokens is "a", "b", "c", ...
// one token each. Behaviour is chosen by the prompt's text, or the last message's:
//   "busy"   RESOURCE_EXHAUSTED (QUEUE_FULL) with RetryInfo 250 ms, before anything is sent
//   "bad"    INVALID_ARGUMENT (INVALID_FIELD) with a BadRequest for sampling.top_p
//   "plain"  INTERNAL without any details
//   "cut"    two tokens, then UNAVAILABLE
//   "slow"   one token, then nothing until the call is cancelled
#pragma once

#include <memory>
#include <string>

namespace megakernel::tests {

// Listens on a free port of 127.0.0.1 from construction to destruction. Thread-safe.
class StubServer {
 public:
  StubServer();
  ~StubServer();

  // "127.0.0.1:PORT".
  const std::string& address() const { return address_; }
  // What health reports from now on; it serves at first.
  void SetServing(bool serving);
  // Ends the server: connections are closed, calls fail.
  void Stop();
  // Forgets a session, as its expiry would: it is SESSION_EXPIRED from now on.
  void ExpireSessions();
  int num_sessions() const;
  // Generate calls and Decode streams that have not returned.
  int num_running() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::string address_;
};

}  // namespace megakernel::tests
