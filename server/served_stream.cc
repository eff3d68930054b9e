#include "server/served_stream.h"

#include <utility>

#include "server/call_access.h"
#include "server/grpc_status.h"
#include "server/grpc_time.h"

namespace megakernel {
namespace {

grpc::WriteOptions BufferedIf(bool more) {
  grpc::WriteOptions options;
  if (more) options.set_buffer_hint();
  return options;
}

// `Responder` is gRPC's writer, or reader and writer; `CallType` the state machine.
template <typename CallType, typename Transport, typename Responder, typename Response>
class StreamOf : public ServedStream, public Transport {
 public:
  using ServedStream::ServedStream;

  void StartWrite(const Response& message, bool more) override {
    responder_.Write(message, BufferedIf(more), Starting(write_));
  }
  void StartWriteAndFinish(const Response& message) override {
    responder_.WriteAndFinish(message, grpc::WriteOptions(), grpc::Status::OK, Starting(finish_));
  }
  void Abort() override { context_.TryCancel(); }
  void Finish(const absl::Status& status) override {
    responder_.Finish(ToGrpcStatus(status, context_), Starting(finish_));
  }

 protected:
  CallType& NewCall(CallContext& calls) {
    call_ = std::make_shared<CallType>(calls, *this);
    return *call_;
  }
  CallType& call() { return *call_; }

  Responder responder_{&context_};

 private:
  void Refuse(const absl::Status& status) override { Finish(status); }
  void WriteDone(bool ok) override { call_->OnWriteDone(ok); }
  void Cancelled() override {
    if (call_ != nullptr) call_->OnCancel();
  }
  void Done() override {
    if (call_ != nullptr) call_->OnDone();
  }

  std::shared_ptr<CallType> call_;  // null: refused
};

class GenerateStream final : public StreamOf<GenerateCall, GenerateTransport,
                                             grpc::ServerAsyncWriter<v1::GenerateResponse>, v1::GenerateResponse> {
 public:
  GenerateStream(StreamingMethods& methods, const CallGate& gate, StreamLoop& loop) : StreamOf(methods, gate, loop) {
    methods_.RequestGenerate(&context_, &request_, &responder_, loop_.queue(), loop_.queue(), Starting(arrival_));
  }

 private:
  void ListenAgain() override { ListenForGenerate(methods_, gate_, loop_); }
  void Begin(CallContext& calls) override {
    NewCall(calls).Start(request_, Deadline(calls.clock), IdentifyCaller(context_, calls.access));
  }
  void ReadDone(bool) override {}  // nothing is read

  v1::GenerateRequest request_;
};

class DecodeStream final
    : public StreamOf<DecodeCall, DecodeTransport, grpc::ServerAsyncReaderWriter<v1::DecodeResponse, v1::DecodeRequest>,
                      v1::DecodeResponse> {
 public:
  DecodeStream(StreamingMethods& methods, const CallGate& gate, StreamLoop& loop) : StreamOf(methods, gate, loop) {
    methods_.RequestDecode(&context_, &responder_, loop_.queue(), loop_.queue(), Starting(arrival_));
  }

  void StartRead(v1::DecodeRequest& message) override { responder_.Read(&message, Starting(read_)); }

 private:
  void ListenAgain() override { ListenForDecode(methods_, gate_, loop_); }
  void Begin(CallContext& calls) override {
    NewCall(calls).Start(Deadline(calls.clock), IdentifyCaller(context_, calls.access));
  }
  void ReadDone(bool ok) override { call().OnReadDone(ok); }
};

}  // namespace

ServedStream::ServedStream(StreamingMethods& methods, const CallGate& gate, StreamLoop& loop)
    : methods_(methods), gate_(gate), loop_(loop) {
  context_.AsyncNotifyWhenDone(&closed_);  // completes only if a client arrives
}

absl::Time ServedStream::Deadline(const Clock& clock) const {
  return clock.Now() + TimeUntil(context_.raw_deadline());
}

void ServedStream::OnArrived(bool ok) {
  if (!ok) {  // the server is shut down
    delete this;
    return;
  }
  if (!loop_.stopping()) ListenAgain();
  peer_ = context_.peer();
  loop_.connections().Join(peer_);
  if (CallContext* const calls = gate_.calls(); calls != nullptr) {
    Begin(*calls);
  } else {
    Refuse(CallGate::Refusal());
  }
  Completed();
}

void ServedStream::OnRead(bool ok) {
  ReadDone(ok);
  Completed();
}

void ServedStream::OnWritten(bool ok) {
  WriteDone(ok);
  Completed();
}

void ServedStream::OnFinished(bool) {
  finished_ = true;
  Completed();
}

void ServedStream::OnClosed(bool) {
  if (context_.IsCancelled()) Cancelled();
  Completed();
}

// The status is the last that is started, so the count does not rise again once it has been sent.
void ServedStream::Completed() {
  if (started_.fetch_sub(1, std::memory_order_relaxed) > 1 || !finished_) return;
  loop_.connections().Leave(peer_);
  Done();
  delete this;
}

void ListenForGenerate(StreamingMethods& methods, const CallGate& gate, StreamLoop& loop) {
  new GenerateStream(methods, gate, loop);
}

void ListenForDecode(StreamingMethods& methods, const CallGate& gate, StreamLoop& loop) {
  new DecodeStream(methods, gate, loop);
}

}  // namespace megakernel
