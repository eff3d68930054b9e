// InferenceService on gRPC's callback API: each streaming call is a thin reactor around a state machine.
#pragma once

#include "megakernel/v1/inference_service.grpc.pb.h"
#include "server/call_context.h"

namespace megakernel {

// Thread-safe. `context` and `model` outlive it.
class InferenceService final : public v1::InferenceService::CallbackService {
 public:
  // `model_description` is what GetModel answers.
  InferenceService(CallContext& context, const Model& model, v1::GetModelResponse model_description);

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(grpc::CallbackServerContext* context,
                                                           const v1::GenerateRequest* request) override;
  grpc::ServerBidiReactor<v1::DecodeRequest, v1::DecodeResponse>* Decode(grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context, const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context, const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context, const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;

 private:
  CallContext& context_;
  const Model& model_;
  const v1::GetModelResponse model_description_;
};

}  // namespace megakernel
