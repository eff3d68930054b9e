// An executor without a model: tokens are a function of the tokens before them, steps take as long as told.
//
// For tests of everything above it. It plans with the same kernels/layout/plan.h as the real ones and keeps, per page
// and slot, which token was written there; every row it runs reads the whole sequence back through the page table and
// fails (Health) when a slot holds anything else: page reuse and copy-on-write mistakes show at the step they happen.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/time/time.h"
#include "engine/executor/executor.h"

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
  // Steps run only in Step(): for tests that need to stand between two steps.
  bool manual = false;
};

// The default token function: depends on the tokens, and on (seed, position) when temperature > 0.
TokenId FakeNextToken(std::span<const TokenId> tokens, const SamplingParams& sampling, std::int32_t first_token,
                      std::int32_t vocab);

// What `FakeExecutor` generates after `prompt`, computed directly: the expected output of a test.
std::vector<TokenId> FakeGenerate(const FakeOptions& options, std::vector<TokenId> prompt,
                                  const SamplingParams& sampling, int max_tokens);

class FakeExecutor final : public Executor {
 public:
  explicit FakeExecutor(FakeOptions options);
  ~FakeExecutor() override;

  const ExecutorInfo& info() const override;
  absl::Status Submit(Command command) override;
  void Drain(std::vector<Event>& events) override;
  void Wait(absl::Duration timeout) override;
  void Notify() override;
  std::uint64_t Heartbeat() const override;
  absl::Status Health() const override;

  // --- For tests; any thread ---

  // Runs one step (commands first). False when there was nothing to run. REQUIRES: manual.
  bool Step();
  // No step runs and the heartbeat rests until it is set to false.
  void Stall(bool stalled);
  // Health() becomes `status`; nothing runs any more.
  void Fail(absl::Status status);
  void Lie(FakeLie lie);
  // Steps and rows so far.
  std::uint64_t num_steps() const;
  std::uint64_t num_rows() const;

 private:
  class Machine;
  std::unique_ptr<Machine> machine_;
};

}  // namespace megakernel
