// A streaming call on gRPC's asynchronous API: waits for a client, then carries what its state machine sends.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "megakernel/v1/inference_service.grpc.pb.h"
#include "server/call_gate.h"
#include "server/decode_call.h"
#include "server/generate_call.h"
#include "server/stream_loop.h"

namespace megakernel {

// The methods whose calls the streams below serve; the rest of the service is on the callback API.
using StreamingMethods = v1::InferenceService::WithAsyncMethod_Generate<v1::InferenceService::WithAsyncMethod_Decode<
    v1::InferenceService::WithCallbackMethod_Tokenize<v1::InferenceService::WithCallbackMethod_Detokenize<
        v1::InferenceService::WithCallbackMethod_GetModel<v1::InferenceService::Service>>>>>;

// What both kinds have in common: the order of events. Deletes itself when every operation has completed. Events come
// on the loop's thread, operations are started from any.
class ServedStream {
 public:
  ServedStream(const ServedStream&) = delete;
  ServedStream& operator=(const ServedStream&) = delete;

 protected:
  class Operation final : public StreamLoop::Operation {
   public:
    Operation(ServedStream& stream, void (ServedStream::*completed)(bool)) : stream_(stream), completed_(completed) {}
    void Completed(bool ok) override { (stream_.*completed_)(ok); }

   private:
    ServedStream& stream_;
    void (ServedStream::*const completed_)(bool);
  };

  ServedStream(StreamingMethods& methods, const CallGate& gate, StreamLoop& loop);
  virtual ~ServedStream() = default;

  // The tag of an operation that is about to start.
  StreamLoop::Operation* Starting(Operation& operation) {
    started_.fetch_add(1, std::memory_order_relaxed);
    return &operation;
  }
  // When the client's patience ends, on the engine's clock.
  absl::Time Deadline(const Clock& clock) const;

  StreamingMethods& methods_;
  const CallGate& gate_;
  StreamLoop& loop_;
  grpc::ServerContext context_;
  Operation arrival_{*this, &ServedStream::OnArrived};
  Operation read_{*this, &ServedStream::OnRead};
  Operation write_{*this, &ServedStream::OnWritten};
  Operation finish_{*this, &ServedStream::OnFinished};

 private:
  // A stream that waits for the next client.
  virtual void ListenAgain() = 0;
  // Ends a call for which there is no state machine.
  virtual void Refuse(const absl::Status& status) = 0;
  // The state machine's events.
  virtual void Begin(CallContext& calls) = 0;
  virtual void ReadDone(bool ok) = 0;
  virtual void WriteDone(bool ok) = 0;
  virtual void Cancelled() = 0;
  virtual void Done() = 0;

  void OnArrived(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);
  void OnClosed(bool ok);
  void Completed();

  Operation closed_{*this, &ServedStream::OnClosed};
  // Operations that have not completed; that the client has gone or the call has ended is one.
  std::atomic<int> started_{1};
  bool finished_ = false;
  std::string peer_;
};

// Each waits for one Generate or Decode call, and makes another that waits for the next.
void ListenForGenerate(StreamingMethods& methods, const CallGate& gate, StreamLoop& loop);
void ListenForDecode(StreamingMethods& methods, const CallGate& gate, StreamLoop& loop);

}  // namespace megakernel
