// The sequences that run: what commands make of them, which rows they bring to a step, which events follow from it.
// No threads and no arithmetic; owned by the executor's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/cpu/batch.h"
#include "engine/cpu/kv_store.h"
#include "engine/cpu/token_counts.h"
#include "engine/executor/executor.h"
#include "kernels/layout/plan.h"

namespace megakernel::cpu {

// A row whose logits are needed, and what comes of them.
struct LogitRow {
  std::int32_t lane = 0;
  std::int32_t row = 0;         // of the batch
  std::int32_t position = 0;    // of the token that the logits predict
  bool samples = false;         // a token is drawn
  bool prompt_logprob = false;  // the prompt's token at `position` is scored
  // Results:
  bool finite = false;  // all logits are numbers
  TokenId token = -1;
  std::unique_ptr<Logprobs> logprobs;
  std::unique_ptr<Logprobs> prompt_logprobs;
};

class Lanes {
 public:
  // Of the sequence in a lane.
  struct Sequence {
    std::uint32_t epoch = 0;
    std::vector<TokenId> tokens;
    std::vector<PageId> pages;
    std::int32_t output_start = 0;
    bool started = false;
    SamplingParams sampling;
    TokenCounts counts;

    std::int32_t num_output() const { return static_cast<std::int32_t>(tokens.size()) - output_start; }
  };

  Lanes(std::int32_t num_lanes, std::int32_t max_rows, std::int32_t page_tokens);

  // REQUIRES: what executor.h demands of each. Pages are poisoned in `poison` where it is not null.
  void Start(Admit command, KvStore* poison, std::vector<Event>& events);
  void Grant(const GrantPages& command, KvStore* poison);
  void End(const Cancel& command, std::vector<Event>& events);
  void SetPolicy(const layout::Policy& policy);

  // Plans the next step. False when there is nothing to run. `events` gets kStarted of lanes that begin. The batch
  // points into the lanes' page tables: valid until the next command.
  bool Plan(Batch& batch, std::vector<LogitRow>& logit_rows, std::vector<Event>& events);

  // Takes the results of the planned step.
  void Commit(std::vector<LogitRow>& logit_rows, std::vector<Event>& events);

  // Ends every sequence.
  void EndAll(FinishCause cause, std::vector<Event>& events);

  const Sequence& sequence(std::int32_t lane) const { return sequences_[lane]; }

 private:
  bool Holds(std::int32_t lane, std::uint32_t epoch) const;
  void Finish(std::int32_t lane, FinishCause cause, std::vector<Event>& events);
  void AddLogitRows(const layout::Segment& segment, std::int32_t first_row, std::vector<LogitRow>& logit_rows) const;
  void CommitRow(LogitRow& row, std::vector<Event>& events);

  const std::int32_t page_tokens_;
  const std::int32_t max_rows_;
  layout::LaneTable table_;
  layout::Policy policy_;
  layout::StepPlan plan_;
  std::uint64_t step_ = 0;
  std::vector<Sequence> sequences_;
};

}  // namespace megakernel::cpu
