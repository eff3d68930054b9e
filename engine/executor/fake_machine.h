// What the fake executor computes: lanes, pages and tokens, one step at a time, without threads or time.
//
// The "key and value" of a position is a hash of the whole prefix up to it. A row reads the hash before it through the
// page table, writes its own, and, where it samples, the token is a function of it. So a token depends on every token
// before it and on every page being the right one. Each row also knows that all positions before it still hold what the
// tokens it was given make of them: page reuse, copy-on-write and prefix mistakes fail at the step in which they
// happen. A position is looked at once; again only after a write that could have changed it, which no correct caller
// causes. So a token costs the same at every length (num_checks counts).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/executor/executor.h"
#include "engine/executor/fake_pages.h"

namespace megakernel {

// What the fake may do wrong, once, at the next opportunity.
enum class FakeLie {
  kNone,
  kWrongLane,         // a token event of a lane that was never admitted
  kWrongEpoch,        // a token event with another epoch
  kWrongPosition,     // a token event that skips a position
  kTokenOutOfRange,   // a token >= vocab
  kKvLengthTooLarge,  // kFinished claims more than was written
  kEventAfterFinish,  // a token event after the lane's kFinished
  kFinishTwice,       // two kFinished of one epoch
  kWrongCause,        // kLength before token_limit
};

constexpr std::uint32_t FeatureBit(Feature feature) {
  return 1u << static_cast<std::uint32_t>(feature);
}
inline constexpr std::uint32_t kFakeFeatures = FeatureBit(Feature::kTemperature) | FeatureBit(Feature::kAllowedTokens) |
                                               FeatureBit(Feature::kMinTokens) | FeatureBit(Feature::kLogprobs) |
                                               FeatureBit(Feature::kPromptLogprobs);

struct FakeOptions {
  std::int32_t max_lanes = 8;
  std::int32_t max_rows = 64;
  std::int32_t max_context = 4096;
  std::int32_t vocab = 256;
  std::int32_t page_tokens = 16;
  std::int32_t num_pages = 1024;
  absl::Duration step_time;  // 0: as fast as it goes
  // Sampled tokens are in [first_token, vocab): keeps special tokens of a test's tokenizer out.
  std::int32_t first_token = 0;
  // What it claims to offer. The default is what the fake honours: temperature 0 or not (then seed and position enter
  // the hash), allowed tokens, min tokens, made-up but reproducible logprobs. A test of the layers above may claim
  // more.
  std::uint32_t features = kFakeFeatures;
  std::int32_t max_logprobs = 8;
  // Replaces the token function. Called on the fake's thread with all tokens of the sequence.
  std::function<TokenId(std::span<const TokenId> tokens, const SamplingParams& sampling)> next_token;
  // Stands still, as after Stall(true), when this many steps have run. 0: never.
  std::uint64_t stall_after_steps = 0;
  // Steps run only in Step(): for tests that need to stand between two steps.
  bool manual = false;
};

// Not thread-safe.
class FakeMachine {
 public:
  explicit FakeMachine(const FakeOptions& options);

  // Carries out one command; events it causes are appended. A command that breaks its contract breaks the machine.
  void Apply(Command& command, std::vector<Event>& events);
  // Runs one step and appends its events. False when there is nothing to run.
  bool Step(std::vector<Event>& events);
  // Whether Step would do something.
  bool HasWork() const;
  void Lie(FakeLie lie) { lie_ = lie; }
  void Break(absl::Status status);

  const absl::Status& health() const { return health_; }
  bool stopped() const { return stopped_; }
  std::uint64_t num_steps() const { return num_steps_; }
  std::uint64_t num_rows() const { return num_rows_; }
  // Positions whose hash was compared.
  std::uint64_t num_checks() const { return num_checks_; }

 private:
  struct Lane {
    std::vector<TokenId> tokens;
    std::vector<std::uint64_t> hashes;  // by position
    std::vector<PageId> pages;
    std::int32_t checked = 0;      // positions [0, checked) were seen to be right ...
    std::uint64_t intrusions = 0;  // ... when pages_.num_intrusions() was this
    SamplingParams sampling;
    std::int32_t output_start = 0;
    bool started = false;
  };

  void Apply(Admit& admit);
  void Apply(GrantPages& grant);
  void Apply(const Cancel& cancel, std::vector<Event>& events);
  void Apply(const CopyPage& copy);
  void Apply(const ReadPages& read, std::vector<Event>& events);
  void Apply(const WritePages& write);
  void StopAll(std::vector<Event>& events);
  bool AddPages(std::int32_t lane, const std::vector<PageId>& pages, std::int32_t first_writable);

  void RunSegment(const layout::Segment& segment, std::vector<Event>& events);
  bool RunRow(std::int32_t lane, std::int32_t position);
  bool CheckBefore(std::int32_t lane, std::int32_t position);
  void EmitPromptLogprobs(std::int32_t lane, const layout::Segment& segment, std::vector<Event>& events);
  // Appends the sampled token; returns why the lane ends after it, or kNone.
  FinishCause EmitToken(std::int32_t lane, std::vector<Event>& events);
  void EmitFinished(std::int32_t lane, FinishCause cause, std::vector<Event>& events);

  const FakeOptions options_;
  layout::LaneTable table_;
  layout::Policy policy_;
  layout::StepPlan plan_;
  std::vector<Lane> lanes_;
  FakePages pages_;
  std::uint64_t num_steps_ = 0;
  std::uint64_t num_rows_ = 0;
  std::uint64_t num_checks_ = 0;
  std::uint32_t last_epoch_ = 0;
  FakeLie lie_ = FakeLie::kNone;
  bool stopped_ = false;
  absl::Status health_;
};

// The hash of a prefix and one more token; 0 is the hash of the empty prefix.
std::uint64_t FakeHash(std::uint64_t prefix, TokenId token);
// The token that follows a prefix. `output_index`: tokens sampled before.
TokenId FakeChoose(const FakeOptions& options, const SamplingParams& sampling, std::uint64_t prefix,
                   std::int32_t output_index);
// Made-up log probabilities of `token` after a prefix, with `top` alternatives.
std::unique_ptr<Logprobs> FakeLogprobs(const FakeOptions& options, std::uint64_t prefix, TokenId token, int top);

}  // namespace megakernel
