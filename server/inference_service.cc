#include "server/inference_service.h"

#include "server/call_access.h"
#include "server/grpc_status.h"
#include "server/text_calls.h"

namespace megakernel {
namespace {

grpc::ServerUnaryReactor* FinishNow(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status, *context));
  return reactor;
}

}  // namespace

void InferenceService::ListenForStreams(StreamLoop& loop) {
  ListenForGenerate(*this, gate_, loop);
  ListenForDecode(*this, gate_, loop);
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const v1::TokenizeRequest* request,
                                                     v1::TokenizeResponse* response) {
  const auto admitted = AdmitCall(gate_, *context, Scope::kInfer);
  if (!admitted.ok()) return FinishNow(context, admitted.status());
  CallContext* const calls = admitted->calls;
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  // Request, response and context live until the reactor has finished.
  const auto answer = [calls, context, reactor, request, response] {
    const Model& model = calls->engine.model();
    reactor->Finish(ToGrpcStatus(megakernel::Tokenize(calls->encoder, model, *request, *response), *context));
  };
  if (request->ByteSizeLong() > kInlinePromptBytes) {
    calls->tasks.Post(answer);
  } else {
    answer();
  }
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  const auto admitted = AdmitCall(gate_, *context, Scope::kInfer);
  if (!admitted.ok()) return FinishNow(context, admitted.status());
  CallContext* const calls = admitted->calls;
  return FinishNow(context, megakernel::Detokenize(calls->engine.model(), *request, *response));
}

grpc::ServerUnaryReactor* InferenceService::GetModel(grpc::CallbackServerContext* context, const v1::GetModelRequest*,
                                                     v1::GetModelResponse* response) {
  const auto admitted = AdmitCall(gate_, *context, Scope::kInfer);
  if (!admitted.ok()) return FinishNow(context, admitted.status());
  CallContext* const calls = admitted->calls;
  *response = calls->model_description;
  return FinishNow(context, absl::OkStatus());
}

}  // namespace megakernel
