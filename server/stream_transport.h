// What a call's state machine asks of the network. gRPC stands behind it in the server, a fake in tests.
#pragma once

#include "absl/status/status.h"

namespace megakernel {

// All functions return at once and never call back from inside: they are called with the state machine's lock held.
template <typename Message>
class StreamTransport {
 public:
  virtual ~StreamTransport() = default;

  // Sends a message, which stays as it is until the state machine's OnWriteDone. One at a time.
  // `more`: another one follows at once, so this one may wait in a buffer.
  virtual void StartWrite(const Message& message, bool more) = 0;
  // The last message and the status OK in one. Answered by OnDone only.
  virtual void StartWriteAndFinish(const Message& message) = 0;
  // The status; nothing follows. No write is in flight. Answered by OnDone.
  virtual void Finish(const absl::Status& status) = 0;
  // Ends the call without waiting for the client: what is in flight fails, and the state machine's OnCancel follows.
  virtual void Abort() = 0;
};

template <typename Request, typename Response>
class DuplexTransport : public StreamTransport<Response> {
 public:
  // Receives a message into `message`, which stays until the state machine's OnReadDone. One at a time.
  virtual void StartRead(Request& message) = 0;
};

}  // namespace megakernel
