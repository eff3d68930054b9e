#include "server/load_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace megakernel {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class LoadLogTest : public testing::Test {
 protected:
  FakeClock clock_;
  std::vector<std::string> lines_;
  LoadLog log_{clock_, [this](const std::string& line) { lines_.push_back(line); }};
};

TEST_F(LoadLogTest, AShortLoadAddsNothing) {
  for (int i = 1; i <= 999; ++i) {
    clock_.Advance(absl::Milliseconds(1));
    log_.Bytes(i < 500 ? "read" : "pack", i, 999);
  }
  EXPECT_THAT(lines_, IsEmpty());
}

TEST_F(LoadLogTest, ALongLoadSaysHowFarItIs) {
  clock_.Advance(absl::Seconds(1));
  log_.Bytes("read", 489'300'000, 1'192'000'000);
  clock_.Advance(absl::Milliseconds(2500));
  log_.Bytes("pack", 1'192'000'000, 1'192'000'000);
  clock_.Advance(absl::Minutes(1));
  log_.Share("upload", 0.5);
  EXPECT_THAT(lines_, ElementsAre(R"(loading stage=read share=0.41 bytes="489.3 MB" total="1.19 GB")",
                                  R"(loading stage=pack share=1.00 bytes="1.19 GB" total="1.19 GB")",
                                  "loading stage=upload share=0.50"));
}

TEST_F(LoadLogTest, AtMostOneLineASecondOverAllStages) {
  for (int i = 1; i <= 10'000; ++i) {
    clock_.Advance(absl::Milliseconds(1));
    if (i % 3 == 0) {
      log_.Share("upload", i / 10'000.0);
    } else {
      log_.Bytes(i % 3 == 1 ? "read" : "pack", i, 10'000);
    }
  }
  EXPECT_EQ(lines_.size(), 10u);
}

}  // namespace
}  // namespace megakernel
