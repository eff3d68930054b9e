// The one hand-over from engine to server: what a generation produces, in order, to one consumer.
//
// The engine thread pushes, one consumer pops; what piles up in between is merged, so a consumer that is late takes one
// larger update instead of many. The buffer is bounded: a consumer that falls more than the limit behind loses the
// generation (SLOW_CONSUMER), never the engine's memory or its time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "engine/executor/executor.h"

namespace megakernel {

enum class FinishReason {
  kStopToken,   // the last token is a stop or end-of-sequence token
  kStopString,  // see Finished::matched_stop
  kLength,      // max_tokens reached (or 0 asked for)
  kCancelled,   // status says by whom: CANCELLED, DEADLINE_EXCEEDED, SESSION_DELETED
  kFailed,      // status says why
};
inline constexpr std::size_t kNumFinishReasons = 5;

struct Usage {
  std::int32_t prompt_tokens = 0;  // of the whole sequence before the first output token
  std::int32_t cached_tokens = 0;  // of those, whose keys and values were not computed again
  std::int32_t output_tokens = 0;  // handed to the stream
};

struct Timings {
  absl::Duration queue;    // request accepted -> first row runs
  absl::Duration prefill;  // first row runs -> first token
  absl::Duration decode;   // first token -> last token
};

// The generation was admitted; precedes every token.
struct Started {
  std::string session_id;  // empty when the sequence is dropped at the end
  std::int32_t prompt_tokens = 0;
  std::int32_t cached_tokens = 0;
  absl::Duration queue_time;
};

struct Finished {
  FinishReason reason = FinishReason::kLength;
  absl::Status status;  // OK for kStopToken, kStopString and kLength
  Usage usage;
  Timings timings;
  // Tokens of the sequence, exactly those handed to the stream: what GetSession reports from now on.
  std::int32_t session_length = 0;
  std::optional<TokenId> stop_token;  // kStopToken
  std::string matched_stop;           // kStopString
};

struct PromptLogprob {
  std::int32_t position = 0;  // of the prompt token in the sequence
  Logprobs logprobs;
};

// What one choice produced since the last Pop.
struct ChoiceUpdate {
  std::vector<TokenId> tokens;
  std::string text;                // may be empty though there are tokens: held back, or no text wanted
  std::vector<Logprobs> logprobs;  // one per token, when asked for
  std::optional<Finished> finished;

  bool empty() const { return tokens.empty() && text.empty() && !finished.has_value(); }
  void Clear();  // keeps memory
};

struct StreamUpdate {
  std::optional<Started> started;
  std::vector<PromptLogprob> prompt_logprobs;
  std::vector<ChoiceUpdate> choices;  // index = choice, always n of them; some may be empty
  // When the engine took the oldest event in here from the executor: the start of the way to the client.
  absl::Time drained_at = absl::InfiniteFuture();
  bool done = false;  // every choice has finished: nothing follows

  void Clear();
};

// Thread-safe: one consumer, one producer.
class TokenStream {
 public:
  // `buffer_tokens` bounds the tokens (of all choices) that wait to be popped. `on_cancel` is called at most once, from
  // Cancel(), on its caller's thread.
  TokenStream(int num_choices, int buffer_tokens, std::function<void()> on_cancel);

  // --- Consumer ---

  // Takes everything queued into `update` (cleared first; reuse it, its memory circulates) and returns true. Returns
  // false when there is nothing; then, and only then, the next push calls the wake function once.
  bool Pop(StreamUpdate& update);

  // Called without locks held on the pushing (engine) thread when something can be popped; it must not block. Called
  // at once, on this thread, if something is queued already. Set once. A stream starts as if Pop had returned false.
  void SetWake(std::function<void()> wake);

  // No wake runs after this returns, except the one that is calling Detach. Cancels what has not finished.
  void Detach();

  // Ends the generation at the next step border; a Finished update with CANCELLED still follows. Idempotent.
  void Cancel();

  int num_choices() const { return num_choices_; }

  // --- Engine thread ---

  // False when the buffer is full: nothing was added.
  bool PushToken(int choice, TokenId token, std::string_view text, std::unique_ptr<Logprobs> logprobs,
                 absl::Time drained_at);
  void PushStarted(Started started, absl::Time drained_at);
  void PushPromptLogprob(PromptLogprob logprob, absl::Time drained_at);
  // The last of a choice; `text` is what was held back. Always succeeds.
  void PushFinished(int choice, std::string_view text, Finished finished, absl::Time drained_at);

  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }

 private:
  void Pushed(absl::Time drained_at) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AwaitQuiet() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Wake() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int num_choices_;
  const int buffer_tokens_;
  const std::function<void()> on_cancel_;
  std::atomic<bool> cancelled_{false};

  Mutex mutex_;
  StreamUpdate pending_ ABSL_GUARDED_BY(mutex_);
  bool has_pending_ ABSL_GUARDED_BY(mutex_) = false;
  int pending_tokens_ ABSL_GUARDED_BY(mutex_) = 0;
  int unfinished_ ABSL_GUARDED_BY(mutex_);
  bool armed_ ABSL_GUARDED_BY(mutex_) = true;
  bool detached_ ABSL_GUARDED_BY(mutex_) = false;
  bool waking_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread::id waking_thread_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> wake_ ABSL_GUARDED_BY(mutex_);  // constant once set: called without the lock
};

}  // namespace megakernel
