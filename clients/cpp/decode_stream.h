// The token loop on one session: operations go in, their answers come out in the same order, tokens as they are made.
// It saves what a call per turn costs, and can put tokens into the middle of a conversation.
//
//   auto stream = client->Decode();
//   stream->Open("");                            // a session of its own, gone when the stream ends
//   stream->Append(prompt);                      // operations need not wait for the answers of those before
//   stream->Decode(decode);
//   v1::DecodeResponse response;
//   while (stream->Read(&response)) { ... }      // each answer carries the id that the operation got
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "clients/cpp/call_options.h"
#include "clients/cpp/error.h"
#include "megakernel/v1/inference_service.pb.h"

namespace megakernel::client {

// Made by Client::Decode. Operations may be sent from any thread while one other thread reads.
class DecodeStream {
 public:
  // Ends the stream: what still runs is cancelled. REQUIRES: no other thread is in a member function.
  ~DecodeStream();

  // Each sends one operation and returns its id (1, 2, 3, ...), or 0 if the stream has ended: Finish then says why.
  // Blocks only while the transport accepts no more.
  std::uint64_t Open(const std::string& session_id);
  std::uint64_t Append(const v1::AppendTokens& append);
  std::uint64_t Decode(const v1::DecodeTokens& decode);
  std::uint64_t RollBack(int length);
  // Ends the operation that runs and those sent before this one.
  std::uint64_t Cancel();

  // Says that no more operations come; those sent are still carried out. Idempotent.
  void CloseSending();

  // Waits for the next answer. False at the end of the stream.
  bool Read(v1::DecodeResponse* response);

  // How the stream ended. REQUIRES: Read returned false. Idempotent.
  Error Finish();

 private:
  friend class Client;
  struct Call;
  explicit DecodeStream(std::unique_ptr<Call> call);
  std::uint64_t Send(v1::DecodeRequest request);

  const std::unique_ptr<Call> call_;
};

// The error in an `error` answer of a stream.
Error OperationFailure(const v1::OperationError& operation);

}  // namespace megakernel::client
