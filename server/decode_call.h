// The life of one Decode call, without gRPC: a queue of operations on one session, carried out and answered in order.
#pragma once

#include <cstdint>
#include <deque>
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

using DecodeTransport = DuplexTransport<v1::DecodeRequest, v1::DecodeResponse>;

// Operations that may wait; further messages are not read until one is answered.
inline constexpr std::size_t kMaxQueuedOperations = 64;
inline constexpr std::size_t kMaxQueuedBytes = 16 << 20;

// One state machine under one lock. Thread-safe: gRPC's threads, the engine's and the task pool's call in.
//
// One operation runs at a time. Whoever completes it adds its answer and starts the next. Calls into the engine are
// made without the lock, because the engine may call back at once. Held by its transport until OnDone and by whatever
// is still to call back.
class DecodeCall final : public LiveCall, public Pumped, public std::enable_shared_from_this<DecodeCall> {
 public:
  // `transport` lives until it has called OnDone.
  DecodeCall(CallContext& context, DecodeTransport& transport);

  // `caller`: who makes the call, or why nobody may.
  void Start(absl::Time deadline, const absl::StatusOr<Caller>& caller = Caller());

  // From the transport.
  void OnReadDone(bool ok);
  void OnWriteDone(bool ok);
  void OnCancel();
  void OnDone();

  void OnDrain() override;
  void OnFailure(const absl::Status& status) override;
  void OnTick() override;

 private:
  enum class Next { kNothing, kRun, kEnd };
  struct Operation {
    v1::DecodeRequest request;
    std::size_t bytes = 0;
    bool cancelled = false;  // before it ran
  };

  // --- The queue (decode_call.cc) ---

  // Starts the operations that can start, one after the other. The lock is not held.
  void Advance();
  Next TakeNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReadMore() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Enqueue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the call once nothing runs; a session of its own is deleted first. The lock is not held.
  void EndCall();
  // Sends what the engine has, as long as it can be sent; current_ may end by it.
  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // --- The operations (decode_operations.cc): each leads to one Complete of current_, at once or later. ---

  void Run();
  void RunOpen();
  void RunAppend();
  void RunDecode();
  void RunRollBack();
  absl::Status CheckAppend(const v1::AppendTokens& append) const;
  absl::StatusOr<std::vector<TokenId>> EncodeAppend(const std::vector<TokenId>& history) const;
  void SubmitAppend(absl::StatusOr<std::vector<TokenId>> tokens);
  void Submit(GenerateRequest request);
  void OnOpened(const absl::StatusOr<SessionInfo>& session, bool created);
  void PumpTokens() override;
  // Writes what update_ holds of current_.
  void Convert() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ConvertEnd(const Finished& finished) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  v1::DecodeResponse& AddResponse(std::int64_t tokens = 0, absl::Time drained_at = absl::InfinitePast())
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FillState(v1::SessionState& state) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // current_ has ended; its answer was added.
  void Complete() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CompleteWith(const absl::Status& error) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The same for a thread that does not hold the lock; starts the next operation.
  void Fail(const absl::Status& error);

  CallContext& context_;
  Caller caller_;  // set by Start
  absl::Time deadline_ = absl::InfiniteFuture();

  Mutex mutex_;
  Outbox<v1::DecodeResponse> outbox_ ABSL_GUARDED_BY(mutex_);
  DecodeTransport& transport_;
  v1::DecodeRequest incoming_;  // the transport's while reading_
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool reads_done_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool advancing_ ABSL_GUARDED_BY(mutex_) = false;  // a thread is in Advance
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;      // EndCall or OnDone was reached
  std::deque<Operation> queue_ ABSL_GUARDED_BY(mutex_);
  std::size_t queued_bytes_ ABSL_GUARDED_BY(mutex_) = 0;

  // The operation that runs. Its request is constant meanwhile.
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  Operation current_;
  OutputSelection selection_ ABSL_GUARDED_BY(mutex_);
  std::uint64_t seed_ ABSL_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<TokenStream> stream_ ABSL_GUARDED_BY(mutex_);
  StreamUpdate update_ ABSL_GUARDED_BY(mutex_);  // reused for its memory

  std::string session_id_ ABSL_GUARDED_BY(mutex_);
  std::int32_t session_length_ ABSL_GUARDED_BY(mutex_) = 0;
  bool owns_session_ ABSL_GUARDED_BY(mutex_) = false;
  RequestRecord record_ ABSL_GUARDED_BY(mutex_){.method = "Decode"};
  absl::Time arrived_;  // set by Start
};

}  // namespace megakernel
