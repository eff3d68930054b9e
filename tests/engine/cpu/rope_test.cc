// Rotary embedding to 32,768 positions against transformers: theta 1e6 (Qwen3) and the scaling of Llama 3.
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "engine/cpu/rope_table.h"
#include "engine/model/hf_config.h"
#include "tests/engine/cpu/rope_check.h"
#include "tests/support/temp_checkpoint.h"

namespace megakernel::test {
namespace {

class RopeTest : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Presets, RopeTest, testing::Values("qwen3-0.6b", "llama-3.2-1b"),
                         [](const testing::TestParamInfo<const char*>& info) {
                           return std::string(info.param).substr(0, 5);
                         });

TEST_P(RopeTest, TablesAndRotatedHeadsAreThoseOfTransformers) {
  const auto report = CheckRope(std::string(MEGAKERNEL_SOURCE_DIR) + "/tests/reference/goldens/rope-" + GetParam());
  ASSERT_TRUE(report.ok()) << report.status();
  std::printf("%d positions to %d, %d values: tables differ by %.2e, heads by %.2e, largest share of a bound %.2f\n",
              static_cast<int>(report->positions), report->last, static_cast<int>(report->values), report->table_error,
              report->head_error, report->share);
  EXPECT_EQ(report->last, 32767);
  EXPECT_TRUE(report->pass());
}

// The frequency of a pair must not depend on how many positions a table has.
TEST_P(RopeTest, OnePositionIsThatOfMany) {
  const auto config = ParseHfConfig(PresetText(GetParam()), GetParam());
  ASSERT_TRUE(config.ok()) << config.status();
  const cpu::RopeTable many(*config, 32768);
  for (const std::int32_t position : {0, 1, 6, 299, 4095}) {
    const cpu::RopeTable few(*config, position + 1);
    for (std::int32_t i = 0; i < config->head_dim / 2; ++i) {
      EXPECT_EQ(few.Cosines(position)[i], many.Cosines(position)[i]);
      EXPECT_EQ(few.Sines(position)[i], many.Sines(position)[i]);
    }
  }
}

}  // namespace
}  // namespace megakernel::test
