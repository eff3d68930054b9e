#include "server/decode_call.h"

#include <utility>

#include "engine/core/error.h"

namespace megakernel {
namespace {

// Answers that may wait to be sent before the next operation starts.
constexpr std::size_t kMaxUnsentAnswers = 16;

}  // namespace

DecodeCall::DecodeCall(CallContext& context, DecodeTransport& transport)
    : context_(context), outbox_(transport, context.clock, context.write_latency), transport_(transport) {}

void DecodeCall::Start(absl::Time deadline, const absl::StatusOr<Caller>& caller) {
  deadline_ = deadline;
  arrived_ = context_.clock.Now();
  context_.live_calls.Add(shared_from_this());
  const absl::Status status = caller.ok() ? caller->Require(Scope::kInfer) : caller.status();
  if (caller.ok()) caller_ = *caller;
  {
    MutexLock lock(&mutex_);
    if (caller.ok()) {
      record_.tenant = caller->tenant;
      record_.trace = caller->trace;
    }
    if (!status.ok()) {
      outbox_.End(status);
      outbox_.Send();
      return;
    }
  }
  Advance();
}

void DecodeCall::OnReadDone(bool ok) {
  std::shared_ptr<TokenStream> cancel;
  {
    MutexLock lock(&mutex_);
    reading_ = false;
    if (!ok) {
      reads_done_ = true;
    } else if (!outbox_.ending()) {
      if (incoming_.has_cancel()) {
        for (Operation& operation : queue_) operation.cancelled = true;
        cancelled_ = running_;
        cancel = stream_;
      }
      Enqueue();
    }
  }
  if (cancel != nullptr) cancel->Cancel();
  Advance();
}

void DecodeCall::Enqueue() {
  Operation& operation = queue_.emplace_back();
  operation.request.Swap(&incoming_);
  operation.bytes = operation.request.ByteSizeLong();
  queued_bytes_ += operation.bytes;
}

void DecodeCall::ReadMore() {
  if (reading_ || reads_done_ || outbox_.ending()) return;
  if (queue_.size() >= kMaxQueuedOperations || queued_bytes_ >= kMaxQueuedBytes) return;
  reading_ = true;
  transport_.StartRead(incoming_);
}

void DecodeCall::Advance() {
  {
    MutexLock lock(&mutex_);
    if (advancing_) return;  // that thread looks again before it leaves
    advancing_ = true;
  }
  for (;;) {
    Next next;
    {
      MutexLock lock(&mutex_);
      next = TakeNext();
      ReadMore();
      if (next == Next::kNothing) {
        advancing_ = false;
        return;
      }
    }
    if (next == Next::kEnd) return EndCall();
    Run();
  }
}

DecodeCall::Next DecodeCall::TakeNext() {
  if (running_ || ended_ || outbox_.ending()) return Next::kNothing;
  if (draining_) return Next::kEnd;
  if (queue_.empty()) return reads_done_ ? Next::kEnd : Next::kNothing;
  if (outbox_.size() >= kMaxUnsentAnswers) return Next::kNothing;
  current_ = std::move(queue_.front());
  queue_.pop_front();
  queued_bytes_ -= current_.bytes;
  running_ = true;
  cancelled_ = current_.cancelled;
  return Next::kRun;
}

void DecodeCall::EndCall() {
  std::string own_session;
  absl::Status status;
  {
    MutexLock lock(&mutex_);
    ended_ = true;
    advancing_ = false;
    if (std::exchange(owns_session_, false)) own_session = session_id_;
    if (draining_) {
      status = MakeError(absl::StatusCode::kUnavailable, ErrorReason::kDraining, "the server is shutting down");
    }
  }
  const auto end = [self = shared_from_this(), status] {
    MutexLock lock(&self->mutex_);
    self->outbox_.End(status);
    self->outbox_.Send();
  };
  if (own_session.empty()) return end();
  context_.engine.DeleteSession(caller_.tenant, own_session, [end](const absl::StatusOr<SessionInfo>&) { end(); });
}

void DecodeCall::OnWriteDone(bool ok) {
  {
    MutexLock lock(&mutex_);
    outbox_.OnWriteDone(ok);
    outbox_.Send();
    Pump();
  }
  Advance();
}

void DecodeCall::PumpTokens() {
  {
    MutexLock lock(&mutex_);
    Pump();
  }
  Advance();
}

void DecodeCall::Pump() {
  while (stream_ != nullptr && !outbox_.busy() && !outbox_.ending()) {
    if (!stream_->Pop(update_)) return;
    Convert();
    outbox_.Send();
  }
}

void DecodeCall::OnCancel() {
  std::shared_ptr<TokenStream> stream;
  {
    MutexLock lock(&mutex_);
    outbox_.Abandon(absl::CancelledError("the call was cancelled"));
    outbox_.Send();
    queue_.clear();
    queued_bytes_ = 0;
    stream = stream_;
  }
  if (stream != nullptr) stream->Cancel();
}

void DecodeCall::OnDrain() {
  {
    MutexLock lock(&mutex_);
    draining_ = true;
  }
  Advance();
}

void DecodeCall::OnFailure(const absl::Status& status) {
  MutexLock lock(&mutex_);
  outbox_.End(status);
  outbox_.Send();
}

void DecodeCall::OnTick() {
  std::shared_ptr<TokenStream> stream;
  {
    MutexLock lock(&mutex_);
    if (!outbox_.Stuck(context_.write_timeout)) return;
    outbox_.Abort(NotReadError(context_.write_timeout));
    queue_.clear();
    queued_bytes_ = 0;
    stream = stream_;
  }
  if (stream != nullptr) stream->Cancel();
}

void DecodeCall::OnDone() {
  std::shared_ptr<TokenStream> stream;
  RequestRecord record;
  std::string own_session;
  {
    MutexLock lock(&mutex_);
    ended_ = true;
    stream = std::exchange(stream_, nullptr);
    if (std::exchange(owns_session_, false)) own_session = session_id_;
    record = std::move(record_);
    record.session_id = session_id_;
    record.status = outbox_.status();
  }
  if (stream != nullptr) stream->Detach();
  if (!own_session.empty()) {
    context_.engine.DeleteSession(caller_.tenant, own_session, [](const absl::StatusOr<SessionInfo>&) {});
  }
  context_.live_calls.Remove(this);
  record.total = context_.clock.Now() - arrived_;
  if (context_.log) context_.log(record);
}

}  // namespace megakernel
