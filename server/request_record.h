// What is known of a call when it has ended: one line of the log. Nothing of what was said.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/core/token_stream.h"
#include "server/trace_context.h"

namespace megakernel {

struct RequestRecord {
  const char* method = "";
  std::string tenant{};      // empty when the caller is not known
  TraceContext trace{};      // empty when the caller sent none, or is not known
  std::string request_id{};  // empty when the request was refused before it had one, and for Decode
  std::string session_id{};  // empty when none was used
  absl::Status status{};     // as the client got it, or would have
  std::int64_t operations = 0;
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;
  std::int64_t output_tokens = 0;  // handed to the stream
  // Of all operations together; of parallel sequences the longest.
  absl::Duration queue{};
  absl::Duration prefill{};
  absl::Duration decode{};
  absl::Duration total{};  // from arrival to end

  // One operation has ended.
  void Add(const Finished& finished) {
    ++operations;
    prompt_tokens += finished.usage.prompt_tokens;
    cached_tokens += finished.usage.cached_tokens;
    queue += finished.timings.queue;
    prefill += finished.timings.prefill;
    decode += finished.timings.decode;
  }
};

using RequestLog = std::function<void(const RequestRecord&)>;

}  // namespace megakernel
