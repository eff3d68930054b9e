// InferenceService on gRPC: short calls on the callback API, streams on a loop of their own.
#pragma once

#include "server/call_gate.h"
#include "server/served_stream.h"
#include "server/stream_loop.h"

namespace megakernel {

// Thread-safe. `gate` outlives it.
class InferenceService final : public StreamingMethods {
 public:
  explicit InferenceService(const CallGate& gate) : gate_(gate) {}

  // Serves Generate and Decode on `loop`. Once, after the gRPC server has started.
  void ListenForStreams(StreamLoop& loop);

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context, const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context, const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context, const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;

 private:
  const CallGate& gate_;
};

}  // namespace megakernel
