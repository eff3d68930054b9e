#include "clients/cpp/decode_stream.h"

#include <utility>

#include "clients/cpp/decode_call.h"

namespace megakernel::client {

DecodeStream::DecodeStream(std::unique_ptr<Call> call) : call_(std::move(call)) {}

DecodeStream::~DecodeStream() {
  if (call_->finished) return;
  call_->scope.context()->TryCancel();
  v1::DecodeResponse response;
  while (Read(&response)) {
  }
  Finish();
}

std::uint64_t DecodeStream::Send(v1::DecodeRequest request) {
  absl::MutexLock lock(&call_->send_mutex);
  if (call_->sending_closed) return 0;
  request.set_operation_id(call_->last_id + 1);
  if (!call_->stream->Write(request)) return 0;
  return ++call_->last_id;
}

std::uint64_t DecodeStream::Open(const std::string& session_id) {
  v1::DecodeRequest request;
  request.mutable_open()->set_session_id(session_id);
  return Send(std::move(request));
}

std::uint64_t DecodeStream::Append(const v1::AppendTokens& append) {
  v1::DecodeRequest request;
  *request.mutable_append() = append;
  return Send(std::move(request));
}

std::uint64_t DecodeStream::Decode(const v1::DecodeTokens& decode) {
  v1::DecodeRequest request;
  *request.mutable_decode() = decode;
  return Send(std::move(request));
}

std::uint64_t DecodeStream::RollBack(int length) {
  v1::DecodeRequest request;
  request.mutable_roll_back()->set_length(length);
  return Send(std::move(request));
}

std::uint64_t DecodeStream::Cancel() {
  v1::DecodeRequest request;
  request.mutable_cancel();
  return Send(std::move(request));
}

void DecodeStream::CloseSending() {
  absl::MutexLock lock(&call_->send_mutex);
  if (call_->sending_closed) return;
  call_->sending_closed = true;
  call_->stream->WritesDone();
}

bool DecodeStream::Read(v1::DecodeResponse* response) {
  return call_->stream->Read(response);
}

Error DecodeStream::Finish() {
  if (!call_->finished) {
    call_->outcome = FromStatus(call_->stream->Finish());
    call_->finished = true;
  }
  return call_->outcome;
}

Error OperationFailure(const v1::OperationError& operation) {
  return FromOperation(operation);
}

}  // namespace megakernel::client
