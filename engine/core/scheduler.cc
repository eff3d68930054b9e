#include "engine/core/scheduler.h"

#include <algorithm>

#include "kernels/layout/kv_page.h"

namespace megakernel {
namespace {

// Positions that are ever written: the last token of a sequence is not.
std::int32_t LastCapacity(const LaneView& lane) {
  return lane.token_limit - 1;
}

std::int32_t CountRunning(std::span<const LaneView> lanes) {
  return static_cast<std::int32_t>(
      std::count_if(lanes.begin(), lanes.end(), [](const LaneView& lane) { return !lane.stopping; }));
}

}  // namespace

void GrantPlan::Clear() {
  grants.clear();
  reclaim = false;
  preempt = -1;
  exhausted = -1;
}

void Scheduler::PlanGrants(std::span<const LaneView> lanes, const PoolView& pool, GrantPlan& plan) const {
  plan.Clear();
  std::int32_t available = pool.available;
  std::int32_t reserve = 0;
  // One page for each lane whose next row but one has no place, oldest first.
  for (const LaneView& lane : lanes) {
    if (lane.stopping || lane.capacity >= std::min(LastCapacity(lane), lane.length + 1)) continue;
    if (available > 0) {
      plan.grants.push_back({lane.lane, 1});
      --available;
    } else if (lane.capacity < lane.length && !plan.reclaim && plan.preempt < 0 && plan.exhausted < 0) {
      FillShortage(lanes, lane, pool, plan);
    }
  }
  // The lookahead, from what is left beyond one page per lane.
  reserve = CountRunning(lanes);
  for (const LaneView& lane : lanes) {
    if (lane.stopping || available <= reserve) continue;
    if (lane.capacity - lane.length >= config_.lookahead / 2) continue;
    const std::int32_t wanted = std::min(LastCapacity(lane), lane.length + config_.lookahead);
    auto grant = std::find_if(plan.grants.begin(), plan.grants.end(),
                              [&](const Grant& given) { return given.lane == lane.lane; });
    const std::int32_t granted = grant == plan.grants.end() ? 0 : grant->pages;
    const std::int32_t missing =
        layout::PagesFor(wanted, config_.page_tokens) - lane.capacity / config_.page_tokens - granted;
    const std::int32_t pages = std::min(missing, available - reserve);
    if (pages <= 0) continue;
    available -= pages;
    if (grant == plan.grants.end()) {
      plan.grants.push_back({lane.lane, pages});
    } else {
      grant->pages += pages;
    }
  }
}

// `starving` cannot run its next row and no page is left.
void Scheduler::FillShortage(std::span<const LaneView> lanes, const LaneView& starving, const PoolView& pool,
                             GrantPlan& plan) const {
  const bool stopping = std::any_of(lanes.begin(), lanes.end(), [](const LaneView& lane) { return lane.stopping; });
  if (stopping) return;  // its pages come first
  if (pool.reclaimable > 0) {
    plan.reclaim = true;
    return;
  }
  const auto youngest = std::max_element(lanes.begin(), lanes.end(),
                                         [](const LaneView& a, const LaneView& b) { return a.order < b.order; });
  if (lanes.size() == 1) {
    plan.exhausted = starving.lane;
  } else {
    plan.preempt = youngest->lane;
  }
}

std::int32_t Scheduler::MinCapacity(const WaitingView& waiting) const {
  if (waiting.prefill_only) return std::max(1, waiting.length - 1);
  return std::min(waiting.length, waiting.token_limit - 1);
}

std::int32_t Scheduler::BestCapacity(const WaitingView& waiting) const {
  if (waiting.prefill_only) return MinCapacity(waiting);
  return std::min(waiting.length + config_.lookahead, waiting.token_limit - 1);
}

Admission Scheduler::Admit(std::int32_t pages, std::span<const LaneView> lanes, const PoolView& pool) const {
  if (pages + CountRunning(lanes) <= pool.available) return Admission::kAdmit;
  const bool stopping = std::any_of(lanes.begin(), lanes.end(), [](const LaneView& lane) { return lane.stopping; });
  if (stopping) return Admission::kWait;
  if (pool.reclaimable > 0) return Admission::kReclaim;
  return lanes.empty() ? Admission::kReject : Admission::kWait;
}

}  // namespace megakernel
