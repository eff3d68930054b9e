// The generator of random checkpoints: fixed values, and equality with tests/reference/make_checkpoint.py by digests.
#include "tests/support/checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "engine/model/half.h"
#include "tests/engine/model/safetensors_writer.h"
#include "tests/support/temp_checkpoint.h"

namespace megakernel::test {
namespace {

TEST(WeightGeneratorTest, AnyRangeGivesTheSameElements) {
  std::vector<float> whole(1000), part(300);
  GenerateWeights(9, Fnv1a64("t"), {.mean = 0.0, .std = 1.0}, 0, whole);
  GenerateWeights(9, Fnv1a64("t"), {.mean = 0.0, .std = 1.0}, 404, part);
  for (std::size_t i = 0; i < part.size(); ++i) ASSERT_EQ(part[i], whole[404 + i]) << i;
}

TEST(WeightGeneratorTest, MomentsAreThoseAskedFor) {
  std::vector<float> values(1 << 18);
  GenerateWeights(2, Fnv1a64("moments"), {.mean = 1.0, .std = 0.25}, 0, values);
  double sum = 0.0, squares = 0.0;
  for (const float value : values) sum += value, squares += (value - 1.0) * (value - 1.0);
  const auto n = static_cast<double>(values.size());
  EXPECT_NEAR(sum / n, 1.0, 5 * 0.25 / std::sqrt(n));  // five standard errors
  EXPECT_NEAR(std::sqrt(squares / n), 0.25, 5 * 0.25 / std::sqrt(2 * n));
}

TEST(RoundingTest, HalvesAndBFloat16SurviveARoundTrip) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    if ((bits & 0x7c00u) != 0x7c00u) {
      ASSERT_EQ(FloatToHalf(HalfToFloat(half)), half) << bits;
    }
    if ((bits & 0x7f80u) != 0x7f80u) {
      ASSERT_EQ(FloatToBFloat16(BFloat16ToFloat(half)), half) << bits;
    }
  }
  EXPECT_EQ(FloatToHalf(1.0f + 0x1p-11f), 0x3c00);      // tie to even, down
  EXPECT_EQ(FloatToHalf(1.0f + 3 * 0x1p-11f), 0x3c02);  // tie to even, up
  EXPECT_EQ(FloatToHalf(65519.0f), 0x7bff);
  EXPECT_EQ(FloatToHalf(65520.0f), 0x7c00);
  EXPECT_EQ(FloatToHalf(0x1p-25f), 0x0000);  // tie between 0 and the smallest subnormal
  EXPECT_EQ(FloatToHalf(-0x1.8p-25f), 0x8001);
  EXPECT_EQ(FloatToBFloat16(1.0f + 0x1p-8f), 0x3f80);
}

std::string Digests(const std::string& directory) {
  std::vector<std::string> lines;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    char line[128];
    std::snprintf(line, sizeof(line), "%s %016llx", entry.path().filename().c_str(),
                  static_cast<unsigned long long>(Fnv1a64(ReadFile(entry.path()))));
    lines.push_back(line);
  }
  std::sort(lines.begin(), lines.end());
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  return all;
}

// Digests are Fnv1a64 of files that the Python script wrote: make_checkpoint.py --config PRESET --seed 1 ...
TEST(CheckpointTest, FilesEqualThoseOfTheReferenceScript) {
  const TempCheckpoint single("qwen2-tiny", 1);
  EXPECT_EQ(Digests(single.path()),
            "config.json 60843711810a1c39\n"
            "model.safetensors 171d9ee32c2d7e46\n");
  const TempCheckpoint sharded("qwen2-tiny", 1, TensorType::kF16, 3);
  EXPECT_EQ(Digests(sharded.path()),
            "config.json 60843711810a1c39\n"
            "model-00001-of-00003.safetensors 90a1cc43fafd6036\n"
            "model-00002-of-00003.safetensors 6351e117276f1e05\n"
            "model-00003-of-00003.safetensors 4b2928c4ae398ab8\n"
            "model.safetensors.index.json 45d4e623109e889b\n");
}

TEST(CheckpointTest, RefusesADirectoryThatHoldsSomething) {
  const TempDirectory directory;
  WriteFile(directory.path() + "/x", "x");
  CheckpointOptions options;
  options.config_text = PresetText("qwen2-tiny");
  EXPECT_TRUE(absl::IsInvalidArgument(WriteCheckpoint(options, directory.path()).status()));
}

}  // namespace
}  // namespace megakernel::test
