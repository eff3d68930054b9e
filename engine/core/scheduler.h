// Which sequences get lanes and pages, and which give them back: pure policy, plain data in and out.
//
// Order is everything: a request gets its place at arrival and keeps it. The oldest waiting one is admitted first,
// pages that are short go to the oldest running one first, the youngest running one is preempted first. So the oldest
// always advances, and nothing starves.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace megakernel {

struct SchedulerConfig {
  std::int32_t page_tokens = 0;
  // A lane is given pages for this many positions ahead, when they are not short: it must never wait for the host.
  std::int32_t lookahead = 0;
};

// A sequence in a lane.
struct LaneView {
  std::int32_t lane = 0;
  std::uint64_t order = 0;
  std::int32_t length = 0;       // tokens, as far as known; the row at length - 1 runs next
  std::int32_t token_limit = 0;  // the row at token_limit - 2 is the last that runs
  std::int32_t capacity = 0;     // positions that its pages hold
  bool stopping = false;         // cancelled or preempted: its pages come back without further ado
};

struct PoolView {
  std::int32_t available = 0;    // pages that can be allocated now
  std::int32_t reclaimable = 0;  // idle sequences that hold pages and may be made to give them up
};

struct Grant {
  std::int32_t lane = 0;
  std::int32_t pages = 0;

  friend bool operator==(const Grant&, const Grant&) = default;
};

// What to do for the running lanes. At most one of the last three is set, and only when a lane cannot go on.
struct GrantPlan {
  std::vector<Grant> grants;
  bool reclaim = false;         // take the pages of one idle sequence, then plan again
  std::int32_t preempt = -1;    // lane to preempt
  std::int32_t exhausted = -1;  // lane that cannot be helped: it is alone and there is nothing to take

  void Clear();
};

// The oldest waiting sequence.
struct WaitingView {
  std::int32_t length = 0;
  std::int32_t token_limit = 0;
  bool prefill_only = false;
};

enum class Admission {
  kAdmit,
  kWait,     // for pages that running lanes will give back
  kReclaim,  // take the pages of one idle sequence, then ask again
  kReject,   // nothing runs and nothing can be taken: it will never fit
};

// Immutable.
class Scheduler {
 public:
  explicit Scheduler(SchedulerConfig config) : config_(config) {}

  // Pages for lanes that run. Lanes that need a page to go on come first, oldest first; then lanes with less than half
  // of the lookahead ahead of them are filled up as long as one page per lane is left.
  void PlanGrants(std::span<const LaneView> lanes, const PoolView& pool, GrantPlan& plan) const;

  // Positions that the admission of `waiting` asks for, at least (its own tokens) and at best (with the lookahead).
  std::int32_t MinCapacity(const WaitingView& waiting) const;
  std::int32_t BestCapacity(const WaitingView& waiting) const;

  // Whether a sequence that takes `pages` (new ones and idle hits, for MinCapacity) may enter beside `lanes`. One page
  // for each lane that is not about to stop stays in reserve, so that an admission does not force a preemption at once.
  Admission Admit(std::int32_t pages, std::span<const LaneView> lanes, const PoolView& pool) const;

 private:
  void FillShortage(std::span<const LaneView> lanes, const LaneView& starving, const PoolView& pool,
                    GrantPlan& plan) const;

  const SchedulerConfig config_;
};

}  // namespace megakernel
