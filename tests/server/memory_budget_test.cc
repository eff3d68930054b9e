#include "server/memory_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace megakernel {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

class FakeRoot : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = ::testing::TempDir() + "/memory_budget_" + ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(root_);
    Write("/proc/meminfo", "MemTotal:  16777216 kB\nMemFree: 100 kB\nMemAvailable:    8388608 kB\n");
  }
  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  std::string root_;
};

TEST_F(FakeRoot, WithoutControlGroupsTheSystemDecides) {
  EXPECT_EQ(AvailableMemory(root_), 8192 * kMiB);
}

TEST_F(FakeRoot, Version2CountsTheTightestGroupAndNotItsCache) {
  Write("/proc/self/cgroup", "0::/pod/container\n");
  Write("/sys/fs/cgroup/pod/memory.max", "1073741824\n");
  Write("/sys/fs/cgroup/pod/memory.current", "536870912\n");
  Write("/sys/fs/cgroup/pod/memory.stat", "anon 5\ninactive_file 268435456\n");
  Write("/sys/fs/cgroup/pod/container/memory.max", "max\n");
  Write("/sys/fs/cgroup/pod/container/memory.current", "536870912\n");
  EXPECT_EQ(AvailableMemory(root_), 768 * kMiB);
}

TEST_F(FakeRoot, Version1) {
  Write("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/box\n");
  Write("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "2147483648\n");
  Write("/sys/fs/cgroup/memory/box/memory.usage_in_bytes", "1073741824\n");
  Write("/sys/fs/cgroup/memory/box/memory.stat", "total_inactive_file 0\n");
  EXPECT_EQ(AvailableMemory(root_), 1024 * kMiB);
}

MemoryRequest SmallModel() {
  return {
      .weight_bytes = 100 * kMiB, .kv_bytes_per_token = 1024, .max_context = 2048, .max_sequences = 4, .kv_memory = 0};
}

TEST(KvBudget, HalfOfWhatIsLeftButNoMoreThanIsUseful) {
  EXPECT_EQ(*KvBudget(SmallModel(), 110 * kMiB), 5 * kMiB);
  EXPECT_EQ(*KvBudget(SmallModel(), 8192 * kMiB), 4 * 2048 * 1024);
}

TEST(KvBudget, WhatIsAskedForIsGivenOrRefused) {
  MemoryRequest request = SmallModel();
  request.kv_memory = 64 * kMiB;
  EXPECT_EQ(*KvBudget(request, 200 * kMiB), 64 * kMiB);
  const auto refused = KvBudget(request, 150 * kMiB);
  ASSERT_FALSE(refused.ok());
  const std::string message(refused.status().message());
  EXPECT_THAT(message, ::testing::HasSubstr("172.0 MB"));  // need: 164 MiB
  EXPECT_THAT(message, ::testing::HasSubstr("157.3 MB"));  // have: 150 MiB
}

TEST(KvBudget, TooLittleForOneConversation) {
  EXPECT_FALSE(KvBudget(SmallModel(), 100 * kMiB + 1000).ok());
  EXPECT_FALSE(KvBudget(SmallModel(), 0).ok());
}

}  // namespace
}  // namespace megakernel
