// The resident executor over the device's own scheduler, run on the processor: the contract of executor.h.
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/time/clock.h"
#include "kernels/host/watchdog.h"
#include "tests/engine/cuda/resident_fixture.h"

namespace megakernel::test {
namespace {

TEST(ResidentExecutorTest, InfoTellsWhatItIs) {
  ResidentRig rig;
  const ExecutorInfo& info = rig.runner.executor().info();
  EXPECT_EQ(info.device, "simulated");
  EXPECT_EQ(info.max_lanes, 8);
  EXPECT_EQ(info.max_rows, 8);
  EXPECT_EQ(info.max_context, 4096);
  EXPECT_EQ(info.page_tokens, 4);
  EXPECT_TRUE(info.Has(Feature::kTemperature) && info.Has(Feature::kTopK));
  EXPECT_TRUE(info.Has(Feature::kTopP) && info.Has(Feature::kMinP));
  EXPECT_FALSE(info.Has(Feature::kLogprobs) || info.Has(Feature::kMinTokens) || info.Has(Feature::kLogitBias));
}

TEST(ResidentExecutorTest, PromptsOfAnyLengthGiveTheirTokens) {
  ResidentRig rig;
  for (const int length : {1, 2, 7, 8, 9, 16, 63}) {
    const Ask ask = Prompt(length, 12);
    const Outcome outcome = rig.runner.Run(ask);
    EXPECT_EQ(outcome.tokens, rig.Expected(ask)) << length;
    EXPECT_EQ(outcome.started, 1);
    EXPECT_EQ(outcome.cause, FinishCause::kLength);
    EXPECT_EQ(outcome.kv_length, length + 11);
    for (int i = 0; i < 12; ++i) EXPECT_EQ(outcome.positions[i], length + i);
  }
}

TEST(ResidentExecutorTest, TemperatureAndSeedReachTheSampler) {
  ResidentRig rig;
  Ask ask = Prompt(5, 20);
  const Outcome greedy = rig.runner.Run(ask);
  ask.sampling.temperature = 0.7f;
  ask.sampling.seed = 0x123456789abcdef0ull;
  const Outcome drawn = rig.runner.Run(ask);
  EXPECT_EQ(drawn.tokens, rig.Expected(ask));
  EXPECT_NE(drawn.tokens, greedy.tokens);
}

TEST(ResidentExecutorTest, StopTokenEndsASequenceAfterItsEvent) {
  ResidentRig rig;
  Ask ask = Prompt(9, 30);
  const std::vector<TokenId> free = rig.Expected(ask);
  ask.sampling.stop_tokens.assign(layout::kMaxStopTokens - 1, 0);
  ask.sampling.stop_tokens.push_back(free[4]);
  const auto first = std::find(free.begin(), free.end(), free[4]) - free.begin();
  if (std::find(free.begin(), free.begin() + first, 0) != free.begin() + first) GTEST_FAIL() << "token 0 comes first";
  const Outcome outcome = rig.runner.Run(ask);
  EXPECT_EQ(outcome.cause, FinishCause::kStopToken);
  ASSERT_EQ(static_cast<std::ptrdiff_t>(outcome.tokens.size()), first + 1);
  EXPECT_EQ(outcome.tokens.back(), free[4]);
  EXPECT_EQ(outcome.kv_length, 9 + first);
}

TEST(ResidentExecutorTest, TooManyStopTokensAreRefused) {
  ResidentRig rig;
  Admit admit;
  admit.epoch = 1;
  admit.tokens = {1, 2};
  admit.token_limit = 5;
  admit.pages = {0, 1};
  admit.sampling.stop_tokens.assign(layout::kMaxStopTokens + 1, 3);
  const absl::Status status = rig.runner.executor().Submit(admit);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("97 stop tokens"), std::string_view::npos) << status;
}

TEST(ResidentExecutorTest, PrefilledPagesAreContinued) {
  ResidentRig rig;
  Ask prefill = Prompt(21, 0);
  prefill.pages = rig.runner.Pages(60);
  prefill.prefill_only = true;
  const Outcome prefilled = rig.runner.Run(prefill);
  EXPECT_EQ(prefilled.cause, FinishCause::kPrefilled);
  EXPECT_EQ(prefilled.kv_length, 20);
  EXPECT_TRUE(prefilled.tokens.empty());
  Ask rest = prefill;
  rest.prefill_only = false;
  rest.kv_length = 20;
  rest.max_tokens = 30;
  EXPECT_EQ(rig.runner.Run(rest).tokens, rig.Expected(rest));
}

TEST(ResidentExecutorTest, ALaneWithoutPagesWaitsForAGrant) {
  ResidentRig rig;
  Ask ask = Prompt(6, 40);
  ask.pages = rig.runner.Pages(8);
  const std::uint32_t epoch = rig.runner.Start(ask);
  const Outcome& paused = rig.runner.UntilTokens(epoch, 3);  // positions 5, 6, 7 have a place
  absl::SleepFor(absl::Milliseconds(20));
  rig.runner.Pump();
  EXPECT_EQ(paused.tokens.size(), 3u);
  EXPECT_FALSE(paused.finished);
  const std::int32_t lane = rig.runner.LaneOf(epoch);
  GrantPages stale{lane, epoch + 77, rig.runner.Pages(4)};
  EXPECT_TRUE(rig.runner.executor().Submit(stale).ok());
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(rig.runner.executor().Submit(GrantPages{lane, epoch, rig.runner.Pages(4)}).ok());
  }
  EXPECT_EQ(rig.runner.Finish(epoch).tokens, rig.Expected(ask));
}

TEST(ResidentExecutorTest, MorePagesThanATableHoldsAreRefused) {
  ResidentRig rig;
  Admit admit;
  admit.epoch = 1;
  admit.tokens = {1, 2};
  admit.token_limit = 5;
  admit.pages.assign(1025, 7);
  const absl::Status status = rig.runner.executor().Submit(admit);
  EXPECT_NE(status.message().find("1025 pages, its table holds 1024"), std::string_view::npos) << status;
}

TEST(ResidentExecutorTest, CancelEndsALane) {
  SimulatedOptions options = SmallDevice();
  options.step_time = std::chrono::milliseconds(1);
  ResidentRig rig(options);
  const Ask ask = Prompt(5, 4000);
  const std::uint32_t epoch = rig.runner.Start(ask);
  rig.runner.UntilTokens(epoch, 5);
  EXPECT_TRUE(rig.runner.executor().Submit(Cancel{rig.runner.LaneOf(epoch), epoch}).ok());
  const Outcome& outcome = rig.runner.Finish(epoch);
  EXPECT_EQ(outcome.cause, FinishCause::kCancelled);
  const std::vector<TokenId> expected = rig.Expected(ask);
  ASSERT_LT(outcome.tokens.size(), 4000u);
  EXPECT_TRUE(std::equal(outcome.tokens.begin(), outcome.tokens.end(), expected.begin()));
  EXPECT_EQ(rig.runner.Run(Prompt(5, 8)).tokens, rig.Expected(Prompt(5, 8)));  // the lane is free again
}

TEST(ResidentExecutorTest, ACopiedPageContinuesAnotherSequence) {
  ResidentRig rig;
  Ask first = Prompt(10, 4);
  first.pages = rig.runner.Pages(14);
  rig.runner.Run(first);
  // The second shares the first two pages and goes on in a copy of the third, which holds position 8.
  Ask second = first;
  second.tokens.resize(9);
  second.tokens.push_back(3);
  second.max_tokens = 20;
  second.kv_length = 9;
  second.pages = {first.pages[0], first.pages[1]};
  for (const PageId page : rig.runner.Pages(24)) second.pages.push_back(page);
  EXPECT_TRUE(rig.runner.executor().Submit(CopyPage{first.pages[2], second.pages[2]}).ok());
  EXPECT_EQ(rig.runner.Run(second).tokens, rig.Expected(second));
}

TEST(ResidentExecutorTest, PagesThatWereReadAndWrittenElsewhereAreContinued) {
  ResidentRig rig;
  Ask prefill = Prompt(30, 0);
  prefill.pages = rig.runner.Pages(32);
  prefill.prefill_only = true;
  rig.runner.Run(prefill);
  const std::vector<std::byte> bytes = rig.runner.ReadBytes(prefill.pages);
  EXPECT_EQ(bytes.size(), 8 * static_cast<std::size_t>(rig.runner.executor().info().page_bytes));
  Ask rest = prefill;
  rest.prefill_only = false;
  rest.kv_length = 29;
  rest.max_tokens = 30;
  rest.pages = rig.runner.Pages(60);
  const std::vector<PageId> targets(rest.pages.begin(), rest.pages.begin() + 8);
  const Ask other = Prompt(7, 2000);  // runs meanwhile
  const std::uint32_t epoch = rig.runner.Start(other);
  EXPECT_TRUE(rig.runner.executor().Submit(WritePages{targets, bytes}).ok());
  EXPECT_EQ(rig.runner.Run(rest).tokens, rig.Expected(rest));
  EXPECT_EQ(rig.runner.Finish(epoch).tokens, rig.Expected(other));
}

TEST(ResidentExecutorTest, EightLanesGiveWhatEachGivesAlone) {
  ResidentRig rig;
  for (int round = 0; round < 5; ++round) {
    std::vector<std::pair<std::uint32_t, Ask>> started;
    for (int lane = 0; lane < 8; ++lane) {
      const Ask ask = Prompt(1 + (lane * 13 + round * 5) % 40, 5 + lane * 7, static_cast<std::uint32_t>(lane + 1));
      started.emplace_back(rig.runner.Start(ask), ask);
    }
    for (const auto& [epoch, ask] : started) EXPECT_EQ(rig.runner.Finish(epoch).tokens, rig.Expected(ask));
  }
}

TEST(ResidentExecutorTest, ParksWhenToldAndWakes) {
  ResidentRig rig;
  for (int round = 0; round < 20; ++round) {
    const Ask ask = Prompt(3 + round, 6);
    EXPECT_EQ(rig.runner.Run(ask).tokens, rig.Expected(ask)) << round;
    EXPECT_TRUE(rig.runner.executor().Submit(Park{}).ok());
    if (round % 2 == 0) continue;  // the next admission comes while the kernel leaves, or after
    const absl::Time limit = absl::Now() + absl::Seconds(10);
    while (!rig.Returned() && absl::Now() < limit) rig.runner.Pump();
    EXPECT_TRUE(rig.Returned());
  }
}

TEST(ResidentExecutorTest, ParksByItselfAndWakes) {
  SimulatedOptions options = SmallDevice();
  options.park_after_us = 500;
  ResidentRig rig(options);
  for (int round = 0; round < 30; ++round) {
    const Ask ask = Prompt(3 + round, 6);
    EXPECT_EQ(rig.runner.Run(ask).tokens, rig.Expected(ask)) << round;
    absl::SleepFor(absl::Microseconds(100 * round));
  }
  const absl::Time limit = absl::Now() + absl::Seconds(10);
  while (!rig.Returned() && absl::Now() < limit) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_TRUE(rig.Returned());
}

TEST(ResidentExecutorTest, MoreCommandsThanTheRingHoldsKeepTheirOrder) {
  ResidentRig rig;
  for (int i = 0; i < 3000; ++i) {
    ASSERT_TRUE(rig.runner.executor().Submit(SetPolicy{{.max_rows = 1 + i % 8}}).ok());
  }
  const Ask ask = Prompt(30, 10);
  EXPECT_EQ(rig.runner.Run(ask).tokens, rig.Expected(ask));
}

TEST(ResidentExecutorTest, AFullEventRingStopsTheKernelAndLosesNothing) {
  ResidentRig rig;
  std::vector<std::pair<std::uint32_t, Ask>> started;
  for (int lane = 0; lane < 8; ++lane) {
    const Ask ask = Prompt(4 + lane, 2000);
    started.emplace_back(rig.runner.Start(ask), ask);
  }
  // 16,000 tokens and nobody reads: the kernel must come to rest with its reserve left, and stay well.
  const layout::MailboxControl& control = *rig.device->mailbox().control;
  const auto steps = [&] { return host::SampleOf(control, true, 0).steps; };
  std::uint64_t before = 0;
  const absl::Time limit = absl::Now() + absl::Seconds(60);
  do {
    before = steps();
    absl::SleepFor(absl::Milliseconds(200));
  } while ((steps() == 0 || steps() != before) && absl::Now() < limit);
  EXPECT_EQ(steps(), before);
  EXPECT_GE(steps(), static_cast<std::uint64_t>(layout::kEventLines - layout::kEventReserve) / 8 - 8);
  EXPECT_LT(steps(), static_cast<std::uint64_t>(layout::kEventLines) / 8);
  EXPECT_TRUE(rig.runner.executor().Health().ok()) << rig.runner.executor().Health();
  for (const auto& [epoch, ask] : started) EXPECT_EQ(rig.runner.Finish(epoch).tokens, rig.Expected(ask));
}

TEST(ResidentExecutorTest, NotifyEndsAWait) {
  ResidentRig rig;
  Executor& executor = rig.runner.executor();
  executor.Notify();
  const absl::Time start = absl::Now();
  executor.Wait(absl::Seconds(20));  // the one before
  std::thread other([&] {
    absl::SleepFor(absl::Milliseconds(20));
    executor.Notify();
  });
  executor.Wait(absl::Seconds(20));
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  other.join();
}

}  // namespace
}  // namespace megakernel::test
