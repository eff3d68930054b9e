// A generation as the engine thread sees it: the request, where its sequences are, what was handed over.
//
//   kIdle --> kWaiting --> kRunning --> kDone
//               ^------------'  preempted: pages taken, tokens kept
//
// A generation has one choice, or n: then the first one reads the prompt (prefill only), the others fork from it, and
// all of them wait for lanes of their own.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/core/request.h"
#include "engine/core/sequence.h"
#include "engine/core/session.h"
#include "engine/core/session_table.h"
#include "engine/core/tenant_quota.h"
#include "engine/core/token_stream.h"
#include "engine/text/text_stream.h"

namespace megakernel {

enum class ChoiceState {
  kIdle,     // the prompt is not read yet, or the request has just arrived
  kWaiting,  // for a lane and pages
  kRunning,  // in a lane, until the executor's kFinished
  kDone,     // Finished was pushed
};

// How a choice ends, decided by the engine and not by the executor.
struct End {
  FinishReason reason = FinishReason::kCancelled;
  absl::Status status;
  std::string matched_stop;
};

struct Choice {
  struct Generation* generation = nullptr;
  int index = 0;
  ChoiceState state = ChoiceState::kIdle;

  std::unique_ptr<Sequence> own;  // null: the session's
  Sequence* sequence = nullptr;
  std::uint64_t order = 0;  // kept through preemptions
  std::int32_t token_limit = 0;
  bool prefill_only = false;

  // While kRunning: what the executor was told and may say next.
  std::int32_t lane = -1;
  std::uint32_t epoch = 0;
  std::int32_t next_position = 0;  // of the next token event
  TokenId last_token = -1;
  bool started = false;      // kStarted was seen
  bool cancel_sent = false;  // Cancel was submitted
  bool preempted = false;    // by the scheduler: goes back to kWaiting

  std::optional<End> end;  // tokens that come after it are dropped
  std::optional<TextStream> text;
  std::int32_t output_tokens = 0;
  absl::Time first_token = absl::InfiniteFuture();
  absl::Time last_token_time = absl::InfiniteFuture();
};

struct Generation {
  std::uint64_t id = 0;
  GenerateRequest request;  // stop tokens complete
  std::shared_ptr<TokenStream> stream;
  std::shared_ptr<TenantUsage> usage;  // of its tenant; null: not counted
  std::vector<Choice> choices;
  int unfinished = 0;

  Session* session = nullptr;               // busy with this; null for a sequence of its own
  std::unique_ptr<Session> deleted;         // the same, once it was deleted
  std::vector<SessionCallback> on_deleted;  // who waits for that

  std::int32_t base_length = 0;    // of the session when the request came
  std::int32_t prompt_length = 0;  // tokens before the first output token
  std::int32_t cached_tokens = 0;  // of those, at the first admission
  std::int32_t next_prompt_logprob = 0;

  absl::Time accepted;
  absl::Time started = absl::InfiniteFuture();  // InfiniteFuture: no row has run, the prompt is not part of the session
  bool admitted = false;                        // left the bounded queue
  bool pages_counted = false;                   // of its tenant's pages

  bool has_started() const { return started != absl::InfiniteFuture(); }
  // Rows of the prompt whose logits are still to come: then nothing of it may be taken from the index.
  bool wants_prompt_logprobs() const {
    return request.sampling.prompt_logprobs >= 0 && next_prompt_logprob < prompt_length;
  }
};

}  // namespace megakernel
