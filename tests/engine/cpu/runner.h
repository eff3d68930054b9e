// Drives an executor by hand: admits sequences with pages of their own and collects what comes out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "engine/cpu/cpu_executor.h"
#include "engine/executor/executor.h"

namespace megakernel::test {

// What one sequence gave.
struct Outcome {
  std::vector<TokenId> tokens;          // sampled
  std::vector<float> logprobs;          // of `tokens`, where asked for
  std::vector<Logprobs> details;        // of `tokens`, where asked for
  std::vector<TokenLogprob> prompt;     // of prompt tokens, where asked for
  std::vector<std::int32_t> prompt_at;  // positions of `prompt`
  std::vector<std::int32_t> positions;  // of `tokens`
  int started = 0;
  bool finished = false;
  FinishCause cause = FinishCause::kNone;
  std::int32_t kv_length = 0;

  // Same tokens and the same bits of logprobs.
  friend bool SameText(const Outcome& a, const Outcome& b) { return a.tokens == b.tokens && a.logprobs == b.logprobs; }
};

// A request: what differs from a plain greedy one.
struct Ask {
  std::vector<TokenId> tokens;
  int max_tokens = 8;
  SamplingParams sampling = Greedy();
  std::int32_t kv_length = 0;
  std::vector<PageId> pages;  // empty: fresh ones for the whole sequence
  bool prefill_only = false;

  static SamplingParams Greedy() {
    SamplingParams params;
    params.temperature = 0.0f;
    params.logprobs = 0;
    return params;
  }
};

class Runner {
 public:
  explicit Runner(std::unique_ptr<Executor> executor) : executor_(std::move(executor)) {}

  Executor& executor() { return *executor_; }

  // Admits to a free lane; returns the epoch.
  std::uint32_t Start(const Ask& ask);
  // Pages for `positions` positions that nobody else has.
  std::vector<PageId> Pages(std::int32_t positions);
  std::int32_t LaneOf(std::uint32_t epoch) const { return lane_of_.at(epoch); }

  // Drains events until the sequence has finished (or `num_tokens` tokens); fails the test after 60 s.
  Outcome& Finish(std::uint32_t epoch);
  Outcome& UntilTokens(std::uint32_t epoch, std::size_t num_tokens);
  Outcome& outcome(std::uint32_t epoch) { return outcomes_[epoch]; }
  // One Wait and Drain; returns the events seen.
  int Pump();
  bool stopped() const { return stopped_; }
  // The bytes of pages, read through the executor; fails the test after 60 s.
  std::vector<std::byte> ReadBytes(const std::vector<PageId>& pages);

  // Start and Finish.
  Outcome Run(const Ask& ask) { return Finish(Start(ask)); }

 private:
  void Take(const Event& event);

  std::unique_ptr<Executor> executor_;
  std::uint32_t next_epoch_ = 1;
  PageId next_page_ = 0;
  bool stopped_ = false;
  std::uint64_t next_ticket_ = 1;
  std::map<std::uint64_t, std::vector<std::byte>> bytes_;  // by ticket
  std::map<std::uint32_t, std::int32_t> lane_of_;
  std::map<std::uint32_t, Outcome> outcomes_;
  std::vector<bool> lane_taken_ = std::vector<bool>(layout::kMaxLanes, false);
};

// A runner on a new CPU executor; the test fails if there is none.
Runner NewRunner(const Model& model, const CpuOptions& options);

// n tokens in [1, vocab), from a seed.
std::vector<TokenId> RandomTokens(std::int32_t n, std::int32_t vocab, std::uint32_t seed);

}  // namespace megakernel::test
