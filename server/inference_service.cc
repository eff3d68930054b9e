#include "server/inference_service.h"

#include <utility>

#include "server/grpc_status.h"
#include "server/text_calls.h"

namespace megakernel {

InferenceService::InferenceService(CallContext& context, const Model& model, v1::GetModelResponse model_description)
    : context_(context), model_(model), model_description_(std::move(model_description)) {}

void InferenceService::ListenForStreams(StreamLoop& loop) {
  ListenForGenerate(*this, context_, loop);
  ListenForDecode(*this, context_, loop);
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  // Request, response and context live until the reactor has finished.
  const auto answer = [this, context, reactor, request, response] {
    reactor->Finish(ToGrpcStatus(megakernel::Tokenize(context_.encoder, model_, *request, *response), *context));
  };
  if (request->ByteSizeLong() > kInlinePromptBytes) {
    context_.tasks.Post(answer);
  } else {
    answer();
  }
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(megakernel::Detokenize(model_, *request, *response), *context));
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::GetModel(grpc::CallbackServerContext* context, const v1::GetModelRequest*,
                                                     v1::GetModelResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  *response = model_description_;
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace megakernel
