// The plan of a step as tables, and by random traces: bounds, fairness, no rows left over, no starvation.
#include "kernels/layout/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

namespace megakernel::layout {
namespace {

struct Fixture {
  std::unique_ptr<LaneTable> table = std::make_unique<LaneTable>();
  std::unique_ptr<StepPlan> plan = std::make_unique<StepPlan>();
  Policy policy;
  std::uint64_t step = 0;

  // A lane with `tokens` tokens of which `written` are computed; room for all that it may ever need unless told.
  Lane& Add(int index, int tokens, int written, int limit, std::uint64_t order, std::uint32_t flags = 0) {
    Lane& lane = table->lanes[index];
    lane = {.state = LaneState::kRunning,
            .epoch = 1,
            .order = order,
            .num_tokens = tokens,
            .kv_length = written,
            .kv_capacity = limit,
            .token_limit = limit,
            .prompt_end = tokens,
            .flags = flags};
    table->num_lanes = std::max(table->num_lanes, index + 1);
    return lane;
  }
  void Decoding(int index, int tokens = 10, int limit = 1000) { Add(index, tokens, tokens - 1, limit, index); }
  std::vector<Segment> Next() {
    Plan(*table, policy, step++, *plan);
    return {plan->segments, plan->segments + plan->num_segments};
  }
  std::vector<Segment> NextAndAdvance() {
    std::vector<Segment> segments = Next();
    Advance(*plan, *table);
    return segments;
  }
};

TEST(PlanTest, NothingToDoIsAnEmptyPlan) {
  Fixture f;
  EXPECT_TRUE(f.Next().empty());
  EXPECT_EQ(f.plan->num_rows, 0);
}

TEST(PlanTest, ALonePromptGetsTheWholeStepAndSamplesAtItsEnd) {
  Fixture f;
  f.policy.max_rows = 8;
  f.Add(0, 20, 0, 100, 1);
  const std::vector<Segment> expected[] = {
      {{0, 0, 8, 0}}, {{0, 8, 8, 0}}, {{0, 16, 4, kSegmentSamples}}, {{0, 20, 1, kSegmentSamples}}};
  for (const auto& segments : expected) EXPECT_EQ(f.NextAndAdvance(), segments);
}

TEST(PlanTest, TheRowThatReachesTheLimitIsTheLast) {
  Fixture f;
  f.Add(0, 3, 0, 4, 1);
  EXPECT_EQ(f.NextAndAdvance(), (std::vector<Segment>{{0, 0, 3, kSegmentSamples | kSegmentLast}}));
  EXPECT_EQ(f.table->lanes[0].state, LaneState::kStopping);
  EXPECT_TRUE(f.NextAndAdvance().empty());
}

TEST(PlanTest, PrefillOnlyLeavesTheLastTokenAndSamplesNothing) {
  Fixture f;
  f.Add(0, 5, 1, 5, 1, kLanePrefillOnly);
  EXPECT_EQ(f.NextAndAdvance(), (std::vector<Segment>{{0, 1, 3, kSegmentLast}}));
  EXPECT_EQ(f.plan->num_sampled, 0);
  EXPECT_TRUE(f.NextAndAdvance().empty());
}

TEST(PlanTest, PromptLogitsOnlyWhileARowPredictsAPromptToken) {
  Fixture f;
  f.policy.max_rows = 3;
  f.Add(0, 4, 0, 10, 1, kLanePromptLogits);
  EXPECT_EQ(f.NextAndAdvance(), (std::vector<Segment>{{0, 0, 3, kSegmentAllLogits}}));
  EXPECT_EQ(f.NextAndAdvance(), (std::vector<Segment>{{0, 3, 1, kSegmentSamples}}));
}

TEST(PlanTest, PagesBoundTheRows) {
  Fixture f;
  f.Add(0, 10, 0, 100, 1).kv_capacity = 4;
  EXPECT_EQ(f.NextAndAdvance(), (std::vector<Segment>{{0, 0, 4, 0}}));
  EXPECT_TRUE(f.NextAndAdvance().empty());
  f.table->lanes[0].kv_capacity = 12;
  EXPECT_EQ(f.NextAndAdvance(), (std::vector<Segment>{{0, 4, 6, kSegmentSamples}}));
}

TEST(PlanTest, DecodeRowsComeFirstAndPromptsShareWhatThePolicyLeaves) {
  Fixture f;
  f.policy = {.max_rows = 16, .prompt_rows_idle = 16, .prompt_rows_busy = 6};
  f.Add(0, 50, 0, 100, 2);
  f.Decoding(1);
  f.Add(2, 2, 0, 100, 3);
  f.Add(3, 50, 0, 100, 1);
  // Share 2 each of 6; the oldest (lane 3) is first.
  EXPECT_EQ(f.Next(),
            (std::vector<Segment>{{1, 9, 1, kSegmentSamples}, {3, 0, 2, 0}, {0, 0, 2, 0}, {2, 0, 2, kSegmentSamples}}));
}

TEST(PlanTest, WhatShortPromptsLeaveGoesToTheOldest) {
  Fixture f;
  f.policy.max_rows = 12;
  f.Add(0, 50, 0, 100, 1);
  f.Add(1, 1, 0, 100, 2, kLanePromptLogits);  // one token decodes at once
  f.Add(2, 2, 0, 100, 3);
  f.Add(3, 50, 0, 100, 4);
  f.policy.prompt_rows_busy = 11;
  const std::vector<Segment> segments = f.Next();
  EXPECT_EQ(f.plan->num_rows, 12);
  EXPECT_EQ(segments[1], (Segment{0, 0, 6, 0}));  // share 3, and 3 more: lane 2 leaves 1, the division 2
}

TEST(PlanTest, EqualOrdersAreBothServed) {
  Fixture f;
  f.policy.max_rows = 4;
  f.Add(0, 9, 0, 100, 7);
  f.Add(1, 9, 0, 100, 7);
  EXPECT_EQ(f.Next(), (std::vector<Segment>{{0, 0, 2, 0}, {1, 0, 2, 0}}));
}

TEST(PlanTest, APromptAdvancesBesideAFullStepOfDecodes) {
  for (const int max_rows : {1, 2, 4}) {
    Fixture f;
    f.policy = {.max_rows = max_rows, .prompt_rows_idle = max_rows, .prompt_rows_busy = max_rows};
    for (int i = 0; i < 4; ++i) f.Decoding(i);
    f.Add(4, 5, 0, 100, 9);
    int steps = 0;
    while (!IsDecoding(f.table->lanes[4]) && steps < 100) {
      f.NextAndAdvance();
      ++steps;
    }
    EXPECT_LE(steps, 8) << max_rows;
  }
}

// Lanes join and leave while a window smaller than their number is served. Between two rows of one lane no other lane
// gets three: with the old start (step * rows) % lanes some waited for ever.
TEST(PlanTest, TheDecodeWindowStarvesNobody) {
  Fixture f;
  f.policy.max_rows = 3;
  for (int i = 0; i < 7; ++i) f.Decoding(i, 10, 1 << 20);
  std::vector<int> waited(8, 0);
  for (int step = 0; step < 500; ++step) {
    f.table->lanes[7].state = LaneState::kFree;
    if (step % 2 == 0) f.Decoding(7, 10, 1 << 20);  // there in every other step
    f.table->num_lanes = 8;
    for (int i = 0; i < 7; ++i) ++waited[i];
    for (const Segment& segment : f.NextAndAdvance()) waited[segment.lane] = 0;
    for (int i = 0; i < 7; ++i) ASSERT_LE(waited[i], 3) << "lane " << i << " step " << step;
  }
}

class PlanTrace : public ::testing::TestWithParam<int> {};

// Random arrivals, page grants and budgets: every step is within bounds, no row is left over that somebody could use,
// every lane ends, and each position of each lane runs exactly once.
TEST_P(PlanTrace, BoundsWorkConservationAndProgress) {
  std::mt19937 random(GetParam());
  const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  Fixture f;
  f.table->num_lanes = pick(1, 12);
  f.policy.max_rows = pick(1, 24);
  f.policy.prompt_rows_idle = f.policy.max_rows;
  f.policy.prompt_rows_busy = pick(1, f.policy.max_rows);
  std::vector<int> next_row(f.table->num_lanes, 0), idle(f.table->num_lanes, 0);
  int started = 0, ended = 0;
  for (int step = 0; step < 4000 && ended < 60; ++step) {
    for (int i = 0; i < f.table->num_lanes; ++i) {
      Lane& lane = f.table->lanes[i];
      if (lane.state == LaneState::kStopping) {
        lane = Lane();
        ++ended;
      }
      if (lane.state == LaneState::kFree && started < 60 && pick(0, 3) == 0) {
        const int tokens = pick(1, 40);
        const int written = pick(0, tokens - 1);
        const bool prefill = tokens - 1 > written && pick(0, 3) == 0;
        f.Add(i, tokens, written, tokens + pick(1, 30), ++started, prefill ? kLanePrefillOnly : 0u);
        lane.kv_capacity = std::max(written, pick(0, tokens));
        next_row[i] = written;
        idle[i] = 0;
      }
      lane.kv_capacity += pick(0, 2);  // what the engine grants
    }
    int usable = 0, decoding = 0;
    for (int i = 0; i < f.table->num_lanes; ++i) {
      const int pending = PendingRows(f.table->lanes[i]);
      if (pending > 0 && IsDecoding(f.table->lanes[i])) ++decoding;
      usable += pending;
    }
    const LaneTable before = *f.table;
    const std::vector<Segment> segments = f.NextAndAdvance();
    int rows = 0;
    std::vector<bool> seen(f.table->num_lanes, false);
    for (const Segment& segment : segments) {
      ASSERT_FALSE(seen[segment.lane]);
      seen[segment.lane] = true;
      ASSERT_EQ(segment.first_position, next_row[segment.lane]);
      ASSERT_GT(segment.num_rows, 0);
      ASSERT_LE(segment.num_rows, PendingRows(before.lanes[segment.lane]));
      next_row[segment.lane] += segment.num_rows;
      idle[segment.lane] = 0;
      rows += segment.num_rows;
    }
    ASSERT_EQ(rows, f.plan->num_rows);
    ASSERT_LE(rows, f.policy.max_rows);
    const int prompt_budget = decoding > 0 ? f.policy.prompt_rows_busy : f.policy.prompt_rows_idle;
    if (f.policy.max_rows > 1) {  // a step of one row alternates between decodes and prompts
      const int all = std::min(f.policy.max_rows, decoding + std::min(usable - decoding, prompt_budget));
      ASSERT_EQ(rows, all) << "step " << step;
    }
    for (int i = 0; i < f.table->num_lanes; ++i) {
      idle[i] += PendingRows(before.lanes[i]) > 0;
      ASSERT_LE(idle[i], 12 * 40 * 24) << "lane " << i << " starves";
    }
  }
  EXPECT_EQ(ended, 60);
}

INSTANTIATE_TEST_SUITE_P(Seeds, PlanTrace, ::testing::Range(1, 201));

}  // namespace
}  // namespace megakernel::layout
