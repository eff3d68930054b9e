// The life of one Generate call, without gRPC: checks, prompt, engine, messages, status.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "engine/base/mutex.h"
#include "engine/core/request.h"
#include "engine/core/token_stream.h"
#include "megakernel/v1/inference_service.pb.h"
#include "server/call_context.h"
#include "server/outbox.h"
#include "server/response_conversion.h"

namespace megakernel {

using GenerateTransport = StreamTransport<v1::GenerateResponse>;

// One state machine under one lock. Thread-safe: gRPC's threads, the engine's and the task pool's call in.
//
//   Start -> [session's tokens] -> [encoding] -> engine -> messages ... -> status -> OnDone
//
// Held by its transport until OnDone and by whatever is still to call back; so late callbacks find it alive and ended.
class GenerateCall final : public LiveCall, public Pumped, public std::enable_shared_from_this<GenerateCall> {
 public:
  // `transport` lives until it has called OnDone.
  GenerateCall(CallContext& context, GenerateTransport& transport);

  // `request` need not outlive the call. `caller`: who makes it, or why nobody may.
  void Start(const v1::GenerateRequest& request, absl::Time deadline, const absl::StatusOr<Caller>& caller = Caller());

  // From the transport.
  void OnWriteDone(bool ok);
  void OnCancel();  // the client has gone, or its deadline has passed
  void OnDone();    // the last; the transport is not touched again

  void OnDrain() override {}  // it ends by itself, or the engine ends it
  void OnFailure(const absl::Status& status) override { Fail(status); }
  void OnTick() override;

 private:
  absl::Status Check(const v1::GenerateRequest& request) const;
  // Gets the prompt's tokens, on this thread or later on another, and calls Submit.
  void Encode(const v1::GenerateRequest& request);
  // `history`: the session's tokens. Any thread that may take its time.
  absl::StatusOr<std::vector<TokenId>> EncodeNow(const v1::GenerateRequest& request,
                                                 const std::vector<TokenId>& history) const;
  void Submit(absl::StatusOr<std::vector<TokenId>> tokens);
  void Fail(absl::Status status);
  // Takes what the engine has, as long as it can be sent.
  void PumpTokens() override;
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Convert() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  CallContext& context_;

  // Set by Start, constant once the engine has the request.
  std::string request_id_;
  GenerateRequest request_;
  OutputSelection selection_;

  Mutex mutex_;
  Outbox<v1::GenerateResponse> outbox_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<TokenStream> stream_ ABSL_GUARDED_BY(mutex_);
  StreamUpdate update_ ABSL_GUARDED_BY(mutex_);  // reused for its memory
  std::uint64_t seed_ ABSL_GUARDED_BY(mutex_) = 0;
  RequestRecord record_ ABSL_GUARDED_BY(mutex_){.method = "Generate"};
  absl::Time arrived_;  // set by Start
};

}  // namespace megakernel
