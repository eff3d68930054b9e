// Small random checkpoints of every family against transformers: goldens of tests/reference/parity_goldens.py, 1, 7 and
// 300 positions and 256 greedy tokens. Real shapes go through `megakernel-bench verify --goldens` with the same check.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "tests/engine/cpu/parity_check.h"
#include "tests/support/temp_checkpoint.h"

namespace megakernel::test {
namespace {

// As many as three blocks of attention need; the rest of the sequences would double the time.
constexpr std::int32_t kExactTokens = 140;

std::string GoldensPrefix(const std::string& preset) {
  return std::string(MEGAKERNEL_SOURCE_DIR) + "/tests/reference/goldens/" + preset;
}

class CheckpointParityTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto goldens = ReadParityGoldens(GoldensPrefix(GetParam()));
    ASSERT_TRUE(goldens.ok()) << goldens.status();
    goldens_ = *std::move(goldens);
    ASSERT_EQ(goldens_.config, GetParam());
    const TempCheckpoint checkpoint(goldens_.config, goldens_.seed, TensorType::kBF16, 3);
    ASSERT_TRUE(checkpoint.status().ok()) << checkpoint.status();
    auto model = LoadModel(checkpoint.path());
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    ASSERT_EQ(goldens_.vocab, model_->config().vocab);
  }

  void ExpectParity(bool fp32) {
    const ParityReport report = CheckParity(*model_, goldens_, fp32, kExactTokens);
    std::printf("%s\n", Describe(report).c_str());
    EXPECT_EQ(report.errors.num_rows(), 1 + 7 + 300 + 256);
    EXPECT_TRUE(report.pass()) << Describe(report);
  }

  ParityGoldens goldens_;
  std::unique_ptr<Model> model_;
};

INSTANTIATE_TEST_SUITE_P(Presets, CheckpointParityTest, testing::Values("qwen3-tiny", "qwen2-tiny", "smollm2-tiny"),
                         [](const testing::TestParamInfo<const char*>& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(CheckpointParityTest, Fp32) {
  ExpectParity(true);
}

TEST_P(CheckpointParityTest, AsServed) {
  ExpectParity(false);
}

// A wrong weight must show: what it does to logits is far beyond the bound.
TEST(AnotherCheckpointTest, Fails) {
  const auto goldens = ReadParityGoldens(GoldensPrefix("qwen2-tiny"));
  ASSERT_TRUE(goldens.ok()) << goldens.status();
  const TempCheckpoint other(goldens->config, goldens->seed + 1);
  ASSERT_TRUE(other.status().ok()) << other.status();
  const auto model = LoadModel(other.path());
  ASSERT_TRUE(model.ok()) << model.status();
  const ParityReport report = CheckParity(**model, *goldens, false, kExactTokens);
  EXPECT_FALSE(report.pass());
  EXPECT_GT(report.errors.absolute_max(), 100 * report.bound);
  EXPECT_GT(report.errors.argmax_differs_beyond_margin(), 0);
}

}  // namespace
}  // namespace megakernel::test
