#include "server/inference_service.h"

#include <memory>
#include <utility>

#include "server/decode_call.h"
#include "server/generate_call.h"
#include "server/grpc_status.h"
#include "server/text_calls.h"

namespace megakernel {
namespace {

grpc::WriteOptions BufferedIf(bool more) {
  grpc::WriteOptions options;
  if (more) options.set_buffer_hint();
  return options;
}

absl::Time Deadline(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  // gRPC's "no deadline" is its largest time.
  return deadline == std::chrono::system_clock::time_point::max() ? absl::InfiniteFuture() : absl::FromChrono(deadline);
}

// Deletes itself in OnDone, the last call that gRPC makes.
class GenerateReactor final : public grpc::ServerWriteReactor<v1::GenerateResponse>, public GenerateTransport {
 public:
  using Base = grpc::ServerWriteReactor<v1::GenerateResponse>;

  GenerateReactor(CallContext& calls, grpc::CallbackServerContext& context, const v1::GenerateRequest& request)
      : context_(context), call_(std::make_shared<GenerateCall>(calls, *this)) {
    call_->Start(request, Deadline(context));
  }

  void StartWrite(const v1::GenerateResponse& message, bool more) override {
    Base::StartWrite(&message, BufferedIf(more));
  }
  void StartWriteAndFinish(const v1::GenerateResponse& message) override {
    Base::StartWriteAndFinish(&message, grpc::WriteOptions(), grpc::Status::OK);
  }
  void Finish(const absl::Status& status) override { Base::Finish(ToGrpcStatus(status, context_)); }

  void OnWriteDone(bool ok) override { call_->OnWriteDone(ok); }
  void OnCancel() override { call_->OnCancel(); }
  void OnDone() override {
    call_->OnDone();
    delete this;
  }

 private:
  grpc::CallbackServerContext& context_;
  const std::shared_ptr<GenerateCall> call_;
};

class DecodeReactor final : public grpc::ServerBidiReactor<v1::DecodeRequest, v1::DecodeResponse>,
                            public DecodeTransport {
 public:
  using Base = grpc::ServerBidiReactor<v1::DecodeRequest, v1::DecodeResponse>;

  DecodeReactor(CallContext& calls, grpc::CallbackServerContext& context)
      : context_(context), call_(std::make_shared<DecodeCall>(calls, *this)) {
    call_->Start(Deadline(context));
  }

  void StartRead(v1::DecodeRequest& message) override { Base::StartRead(&message); }
  void StartWrite(const v1::DecodeResponse& message, bool more) override {
    Base::StartWrite(&message, BufferedIf(more));
  }
  void StartWriteAndFinish(const v1::DecodeResponse& message) override {
    Base::StartWriteAndFinish(&message, grpc::WriteOptions(), grpc::Status::OK);
  }
  void Finish(const absl::Status& status) override { Base::Finish(ToGrpcStatus(status, context_)); }

  void OnReadDone(bool ok) override { call_->OnReadDone(ok); }
  void OnWriteDone(bool ok) override { call_->OnWriteDone(ok); }
  void OnCancel() override { call_->OnCancel(); }
  void OnDone() override {
    call_->OnDone();
    delete this;
  }

 private:
  grpc::CallbackServerContext& context_;
  const std::shared_ptr<DecodeCall> call_;
};

}  // namespace

InferenceService::InferenceService(CallContext& context, const Model& model, v1::GetModelResponse model_description)
    : context_(context), model_(model), model_description_(std::move(model_description)) {}

grpc::ServerWriteReactor<v1::GenerateResponse>* InferenceService::Generate(grpc::CallbackServerContext* context,
                                                                           const v1::GenerateRequest* request) {
  return new GenerateReactor(context_, *context, *request);
}

grpc::ServerBidiReactor<v1::DecodeRequest, v1::DecodeResponse>* InferenceService::Decode(
    grpc::CallbackServerContext* context) {
  return new DecodeReactor(context_, *context);
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
