#include "engine/cpu/thread_team.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

namespace megakernel::cpu {
namespace {

TEST(ThreadTeamTest, EveryMemberRuns) {
  for (int size : {1, 2, 3, 8}) {
    ThreadTeam team(size);
    ASSERT_EQ(team.size(), size);
    for (int run = 0; run < 20; ++run) {
      std::vector<int> ran(static_cast<std::size_t>(size), 0);
      team.Run([&](Worker& worker) {
        EXPECT_EQ(worker.num_workers(), size);
        ++ran[worker.index()];
      });
      EXPECT_EQ(std::accumulate(ran.begin(), ran.end(), 0), size);
      for (int count : ran) EXPECT_EQ(count, 1);
    }
  }
}

TEST(ThreadTeamTest, ABarrierShowsWhatWasWrittenBefore) {
  constexpr int kSize = 4;
  ThreadTeam team(kSize);
  std::vector<int> values(kSize, 0);
  team.Run([&](Worker& worker) {
    for (int phase = 1; phase <= 300; ++phase) {
      values[worker.index()] = phase;  // not atomic: the barrier orders it
      worker.Barrier();
      for (int value : values) ASSERT_EQ(value, phase);
      worker.Barrier();
    }
  });
}

TEST(ThreadTeamTest, EachItemGoesToOneMember) {
  ThreadTeam team(3);
  for (int run = 0; run < 10; ++run) {
    std::vector<std::vector<int>> taken(40, std::vector<int>(101, 0));
    team.Run([&](Worker& worker) {
      for (int phase = 0; phase < 40; ++phase) {
        const int total = phase * 2 + (phase % 3);
        for (int first, count; worker.Take(total, 1 + phase % 5, first, count);) {
          for (int i = first; i < first + count; ++i) ++taken[phase][i];
        }
        worker.Barrier();
      }
    });
    for (int phase = 0; phase < 40; ++phase) {
      for (int i = 0; i < 101; ++i) ASSERT_EQ(taken[phase][i], i < phase * 2 + (phase % 3) ? 1 : 0);
    }
  }
}

TEST(ThreadTeamTest, ProgressCountsEveryTake) {
  ThreadTeam team(2);
  std::atomic<std::uint64_t> takes{0};
  team.Run([&](Worker& worker) {
    for (int first, count; worker.Take(50, 3, first, count);) takes.fetch_add(1);
  });
  EXPECT_EQ(team.Progress(), takes.load());
  EXPECT_GE(takes.load(), 17u);
}

TEST(ThreadTeamTest, MembersThatSleptWakeUp) {
  ThreadTeam team(2);
  for (int run = 0; run < 3; ++run) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // far longer than they spin
    int slow = 0, fast = 0;
    team.Run([&](Worker& worker) {
      if (worker.index() == run % 2) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));  // the other sleeps in the barrier
        slow = 1;
      }
      worker.Barrier();
      if (worker.index() == 0) fast = slow;
    });
    EXPECT_EQ(fast, 1);
  }
}

}  // namespace
}  // namespace megakernel::cpu
