#include "engine/cpu/processor_count.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace megakernel::cpu {
namespace {

class ProcessorCountTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::path(testing::TempDir()) / "cgroup_test";
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
  }
  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  double Quota(const std::string& membership) { return CgroupQuota(root_.string(), membership); }
  std::filesystem::path root_;
};

TEST_F(ProcessorCountTest, NoQuota) {
  EXPECT_EQ(Quota("0::/\n"), 0);
  Write("cpu.max", "max 100000\n");
  EXPECT_EQ(Quota("0::/\n"), 0);
  EXPECT_EQ(Quota("not a line\n"), 0);
}

TEST_F(ProcessorCountTest, VersionTwoTakesTheStrictestOnTheWayUp) {
  Write("a/cpu.max", "150000 100000\n");
  Write("a/b/cpu.max", "400000 100000\n");
  EXPECT_EQ(Quota("0::/a/b\n"), 1.5);
  EXPECT_EQ(Quota("0::/a\n"), 1.5);
  Write("cpu.max", "50000 100000\n");
  EXPECT_EQ(Quota("0::/a/b\n"), 0.5);
}

TEST_F(ProcessorCountTest, VersionOne) {
  Write("cpu,cpuacct/x/cpu.cfs_quota_us", "250000\n");
  Write("cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Quota("5:memory:/x\n4:cpu,cpuacct:/x\n"), 2.5);
  Write("cpu,cpuacct/x/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(Quota("4:cpu,cpuacct:/x\n"), 0);
}

TEST(UsableProcessorsTest, IsAtLeastOne) {
  EXPECT_GE(UsableProcessors(), 1);
}

}  // namespace
}  // namespace megakernel::cpu
