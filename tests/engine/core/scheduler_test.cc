// The scheduler's decisions as tables.
#include "engine/core/scheduler.h"

#include <gtest/gtest.h>

namespace megakernel {
namespace {

const Scheduler kScheduler({.page_tokens = 4, .lookahead = 8});

LaneView Lane(int lane, int length, int capacity, bool stopping = false) {
  return {.lane = lane,
          .order = static_cast<std::uint64_t>(lane),
          .length = length,
          .token_limit = 100,
          .capacity = capacity,
          .stopping = stopping};
}

GrantPlan Grants(std::vector<LaneView> lanes, PoolView pool) {
  GrantPlan plan;
  kScheduler.PlanGrants(lanes, pool, plan);
  return plan;
}

TEST(SchedulerTest, GrantsAheadWhenPagesAreFree) {
  EXPECT_EQ(Grants({Lane(0, 10, 12)}, {.available = 10}).grants, (std::vector<Grant>{{0, 2}}));  // up to 18 positions
  EXPECT_TRUE(Grants({Lane(0, 10, 16)}, {.available = 10}).grants.empty());
}

TEST(SchedulerTest, TheLastTokenNeedsNoPage) {
  LaneView lane = Lane(0, 12, 12);
  lane.token_limit = 13;
  EXPECT_TRUE(Grants({lane}, {.available = 10}).grants.empty());
}

TEST(SchedulerTest, TheOldestGetsTheLastPage) {
  const GrantPlan plan = Grants({Lane(0, 12, 12), Lane(1, 12, 12)}, {.available = 1});
  EXPECT_EQ(plan.grants, (std::vector<Grant>{{0, 1}}));
  EXPECT_EQ(plan.preempt, -1) << "lane 1 can still run its next row";
}

TEST(SchedulerTest, AStarvingLaneTakesFromIdleSessionsThenFromTheYoungest) {
  EXPECT_TRUE(Grants({Lane(0, 13, 12), Lane(1, 5, 8)}, {.available = 0, .reclaimable = 1}).reclaim);
  EXPECT_EQ(Grants({Lane(0, 13, 12), Lane(1, 5, 8)}, {.available = 0}).preempt, 1);
  EXPECT_EQ(Grants({Lane(0, 5, 8), Lane(1, 13, 12)}, {.available = 0}).preempt, 1);
  const GrantPlan waiting = Grants({Lane(0, 13, 12), Lane(1, 5, 8, true)}, {.available = 0, .reclaimable = 1});
  EXPECT_FALSE(waiting.reclaim) << "the stopping lane's pages come first";
  EXPECT_EQ(waiting.preempt, -1);
  EXPECT_EQ(Grants({Lane(0, 13, 12)}, {.available = 0}).exhausted, 0);
}

TEST(SchedulerTest, AdmissionLeavesOnePageForEachRunningLane) {
  const std::vector<LaneView> lanes = {Lane(0, 5, 8), Lane(1, 5, 8)};
  EXPECT_EQ(kScheduler.Admit(3, lanes, {.available = 5}), Admission::kAdmit);
  EXPECT_EQ(kScheduler.Admit(4, lanes, {.available = 5}), Admission::kWait);
  EXPECT_EQ(kScheduler.Admit(4, lanes, {.available = 5, .reclaimable = 1}), Admission::kReclaim);
  EXPECT_EQ(kScheduler.Admit(6, {}, {.available = 5}), Admission::kReject);
  const std::vector<LaneView> stopping = {Lane(0, 5, 8, true)};
  EXPECT_EQ(kScheduler.Admit(6, stopping, {.available = 5, .reclaimable = 1}), Admission::kWait);
}

TEST(SchedulerTest, CapacityOfAnAdmission) {
  EXPECT_EQ(kScheduler.MinCapacity({.length = 10, .token_limit = 100}), 10);
  EXPECT_EQ(kScheduler.BestCapacity({.length = 10, .token_limit = 100}), 18);
  EXPECT_EQ(kScheduler.BestCapacity({.length = 10, .token_limit = 12}), 11);
  EXPECT_EQ(kScheduler.MinCapacity({.length = 10, .token_limit = 10, .prefill_only = true}), 9);
}

}  // namespace
}  // namespace megakernel
