// What all calls of a server share.
#pragma once

#include <string>

#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/core/engine.h"
#include "megakernel/v1/inference_service.pb.h"
#include "server/access.h"
#include "server/live_calls.h"
#include "server/prompt_encoder.h"
#include "server/pump.h"
#include "server/request_record.h"
#include "server/task_pool.h"
#include "server/write_latency.h"

namespace megakernel {

class SessionStore;

// Prompts up to this size are encoded on the thread that has them (some 0.1 ms); longer ones in the task pool.
inline constexpr std::size_t kInlinePromptBytes = 2048;

// Everything in here is thread-safe and outlives every call.
struct CallContext {
  Engine& engine;
  const Clock& clock;
  PromptEncoder encoder;
  TaskPool& tasks;
  Pump& pump;
  LiveCalls& live_calls;
  WriteLatency& write_latency;
  std::string instance_id;
  SamplingParams default_sampling = {};  // of requests that leave a number out
  // A client that takes nothing for this long loses its call.
  absl::Duration write_timeout = absl::InfiniteDuration();
  RequestLog log = nullptr;               // may be null
  const AccessControl* access = nullptr;  // null: nobody needs a token
  SessionStore* session_store = nullptr;  // null: sessions cannot be saved
  v1::GetModelResponse model_description = {};
};

}  // namespace megakernel
