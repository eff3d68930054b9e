// What runs the model: commands in, events out, never a step plan and never logits.
//
// The engine admits sequences to lanes, grants KV pages and cancels; the executor plans its own steps
// (kernels/layout/plan.h), runs them, samples, feeds tokens back and reports them. So a kernel that stays resident on a
// GPU, a pool of CPU threads and a fake can stand behind the same interface, and the host is never between two tokens.
//
// Threads: Submit, Drain and Wait belong to one thread, the engine's. The rest may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "kernels/layout/kv_page.h"
#include "kernels/layout/plan.h"

namespace megakernel {

using TokenId = std::int32_t;
using layout::PageId;

// How a token is chosen. Order of operations and arithmetic: kernels/layout/sampling.h. Ranges are checked before they
// get here (engine/request.h); an executor may rely on them.
struct SamplingParams {
  float temperature = 1.0f;         // 0 = greedy
  std::int32_t top_k = 0;           // 0 = off
  float top_p = 1.0f;               // 1 = off
  float min_p = 0.0f;               // 0 = off
  float repetition_penalty = 1.0f;  // 1 = off; over prompt and output
  float presence_penalty = 0.0f;    // 0 = off; over output
  float frequency_penalty = 0.0f;   // 0 = off; over output
  std::uint64_t seed = 0;
  std::int32_t min_tokens = 0;        // sampled tokens before a stop token may be chosen
  std::int32_t logprobs = -1;         // -1 = none, 0 = of the chosen token, n = of the n likeliest too
  std::int32_t prompt_logprobs = -1;  // the same for prompt tokens
  std::vector<std::pair<TokenId, float>> logit_bias;
  std::vector<TokenId> allowed_tokens;  // empty = all
  std::vector<TokenId> stop_tokens;     // end-of-sequence ids included, unless the request ignores them
};

// What a request may ask of an executor. A feature that is not offered is refused before admission, never ignored.
enum class Feature : std::uint32_t {
  kTemperature,
  kTopK,
  kTopP,
  kMinP,
  kRepetitionPenalty,
  kPresencePenalty,
  kFrequencyPenalty,
  kLogitBias,
  kAllowedTokens,
  kMinTokens,
  kLogprobs,
  kPromptLogprobs,
  kNumFeatures,
};

struct ExecutorInfo {
  std::string device;            // for people: "cpu: avx2, 2 threads"
  std::int32_t max_lanes = 0;    // sequences that run at the same time
  std::int32_t max_rows = 0;     // rows of a step
  std::int32_t max_context = 0;  // positions of one sequence
  std::int32_t vocab = 0;
  std::int32_t page_tokens = 0;  // positions a KV page holds; the engine assumes nothing else about pages
  std::int32_t num_pages = 0;    // page ids are [0, num_pages)
  std::int64_t page_bytes = 0;
  std::int64_t weight_bytes = 0;  // as held in memory
  std::string kv_type;            // "fp16", "fp32", ...
  // What the bytes of a page mean, beside the model: pages may be written to an executor of the same model and format
  // only. Empty: ReadPages and WritePages are not offered.
  std::string page_format;
  std::uint32_t features = 0;     // bit per Feature
  std::int32_t max_logprobs = 0;  // largest n of logprobs and prompt_logprobs

  bool Has(Feature feature) const { return (features >> static_cast<std::uint32_t>(feature)) & 1u; }
};

// --- Commands. Carried out in the order of submission. ---

// Puts a sequence into a free lane and lets it run.
// Positions [0, kv_length) hold valid keys and values in `pages`; the rest of the pages is this lane's to write, nobody
// else reads it. 0 <= kv_length < tokens.size() < token_limit (<= when prefill_only).
// Ends with exactly one kFinished for (lane, epoch).
struct Admit {
  std::int32_t lane = 0;
  std::uint32_t epoch = 0;      // never used before
  std::uint64_t order = 0;      // admission order; older prompts first
  std::vector<TokenId> tokens;  // the whole sequence
  std::int32_t kv_length = 0;
  std::int32_t output_start = 0;  // tokens from here on are output (penalties, min_tokens); <= tokens.size()
  std::int32_t token_limit = 0;   // finishes with kLength when the sequence has this many tokens
  bool prefill_only = false;      // writes keys and values up to tokens.size() - 1, samples nothing, ends kPrefilled
  std::vector<PageId> pages;
  SamplingParams sampling;
};

// More pages at the end of the lane's page table. A lane whose pages are full waits for this.
// Ignored when the lane no longer holds that epoch (the pages are then free once its kFinished is drained).
struct GrantPages {
  std::int32_t lane = 0;
  std::uint32_t epoch = 0;
  std::vector<PageId> pages;
};

// Ends the lane's sequence at the next step border, with kCancelled. Ignored when it no longer holds that epoch.
struct Cancel {
  std::int32_t lane = 0;
  std::uint32_t epoch = 0;
};

// Copies one page. Ordered before every later Admit; no running lane writes `source` meanwhile.
struct CopyPage {
  PageId source = layout::kNoPage;
  PageId target = layout::kNoPage;
};

// Asks for the bytes of pages, whose content is final: kPages follows. No running lane writes them meanwhile.
struct ReadPages {
  std::uint64_t ticket = 0;
  std::vector<PageId> pages;
};

// Overwrites pages with what ReadPages gave. Ordered before every later Admit; no running lane holds them meanwhile.
struct WritePages {
  std::vector<PageId> pages;
  std::vector<std::byte> bytes;  // [pages.size(), page_bytes]
};

struct SetPolicy {
  layout::Policy policy;
};

// Nothing is running and nothing is expected soon: the executor may give up the processor. Any later command wakes it.
struct Park {};

// Finishes the step in flight, ends every lane with kCancelled, reports kStopped, runs no more.
struct Stop {};

using Command = std::variant<Admit, GrantPages, Cancel, CopyPage, ReadPages, WritePages, SetPolicy, Park, Stop>;

// --- Events. ---

enum class EventType : std::uint8_t {
  kStarted,         // the lane's first row is about to run
  kToken,           // one sampled token
  kPromptLogprobs,  // of the prompt token at `position`
  kFinished,        // the lane is free and no step in flight touches its pages any more
  kPages,           // the bytes that ReadPages asked for
  kStopped,         // after Stop: nothing follows
};

enum class FinishCause : std::uint8_t {
  kNone,
  kStopToken,  // the last token event was one of sampling.stop_tokens
  kLength,     // token_limit reached
  kPrefilled,  // prefill_only: everything but the last token is written
  kCancelled,
  kFailed,  // the executor is broken: see Health()
};

struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0.0f;   // natural log
  std::int32_t rank = 0;  // 0 = likeliest
};

struct Logprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // likeliest first
};

struct PageBytes {
  std::uint64_t ticket = 0;      // of the ReadPages
  std::vector<std::byte> bytes;  // [pages.size(), page_bytes]
};

struct Event {
  EventType type = EventType::kToken;
  FinishCause cause = FinishCause::kNone;  // kFinished
  std::int32_t lane = 0;
  std::uint32_t epoch = 0;
  std::int32_t position = 0;   // of the token in its sequence
  TokenId token = 0;           // kToken, kPromptLogprobs
  std::int32_t kv_length = 0;  // kFinished: positions [0, kv_length) are written
  std::unique_ptr<Logprobs> logprobs;
  std::unique_ptr<PageBytes> pages;  // kPages, which belongs to no lane
};

class Executor {
 public:
  virtual ~Executor() = default;

  // Constant after construction.
  virtual const ExecutorInfo& info() const = 0;

  // Hands over a command; does not wait for it. InvalidArgument when the command breaks its contract (a broken
  // invariant of the caller), Unavailable when the executor has stopped or failed. Room for commands is never the
  // caller's worry.
  virtual absl::Status Submit(Command command) = 0;

  // Appends the events that are ready to `events`, oldest first. Does not wait.
  virtual void Drain(std::vector<Event>& events) = 0;

  // Returns when events are ready, Notify() was called since the last return, or `timeout` is over.
  virtual void Wait(absl::Duration timeout) = 0;

  // Ends a Wait, or the next one.
  virtual void Notify() = 0;

  // Rises while work is being done, within a step too (a layer, a tile): what a watchdog looks at. Still while idle.
  virtual std::uint64_t Heartbeat() const = 0;

  // Not OK once the executor can do no more; says why.
  virtual absl::Status Health() const = 0;
};

}  // namespace megakernel
