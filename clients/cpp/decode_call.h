// The gRPC side of DecodeStream. Private to clients/cpp.
#pragma once

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "clients/cpp/call_scope.h"
#include "clients/cpp/decode_stream.h"
#include "megakernel/v1/inference_service.grpc.pb.h"

namespace megakernel::client {

struct DecodeStream::Call {
  Call(v1::InferenceService::Stub* stub, const CallOptions& options)
      : scope(options), stream(stub->Decode(scope.context())) {}

  CallScope scope;
  const std::unique_ptr<grpc::ClientReaderWriter<v1::DecodeRequest, v1::DecodeResponse>> stream;
  absl::Mutex send_mutex;  // gRPC allows one write at a time
  std::uint64_t last_id ABSL_GUARDED_BY(send_mutex) = 0;
  bool sending_closed ABSL_GUARDED_BY(send_mutex) = false;
  // Of the reading thread.
  bool finished = false;
  Error outcome;
};

}  // namespace megakernel::client
