// Opening a model tells how far it is, to the last byte.
#include <gtest/gtest.h>

#include <filesystem>

#include "engine/model/model.h"
#include "tests/engine/model/gguf_writer.h"
#include "tests/engine/model/temp_file.h"
#include "tests/support/progress_record.h"
#include "tests/support/temp_checkpoint.h"

namespace megakernel::test {
namespace {

TEST(LoadProgressTest, DirectoryIsReadOnce) {
  for (const int shards : {1, 3}) {
    const TempCheckpoint checkpoint("qwen3-tiny", 3, TensorType::kBF16, shards);
    ASSERT_TRUE(checkpoint.status().ok()) << checkpoint.status();
    std::int64_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(checkpoint.path())) {
      if (entry.path().extension() == ".safetensors") bytes += static_cast<std::int64_t>(entry.file_size());
    }
    ProgressRecord record;
    const auto model = LoadModel(checkpoint.path(), record.Callback());
    ASSERT_TRUE(model.ok()) << model.status();
    ASSERT_EQ(record.stages().size(), 1u);
    EXPECT_EQ(record.stages()[0].name, "read");
    EXPECT_EQ(record.stages()[0].total, bytes);
    EXPECT_EQ(record.stages()[0].done, bytes);
    EXPECT_GT(record.stages()[0].calls, 10);
  }
}

TEST(LoadProgressTest, GgufIsCheckedThenDigested) {
  const std::string bytes = TinyLlama().Bytes();
  const TempFile file(bytes);
  ProgressRecord record;
  const auto model = LoadModel(file.path(), record.Callback());
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_EQ(record.stages().size(), 2u);
  EXPECT_EQ(record.stages()[0].name, "check");
  EXPECT_EQ(record.stages()[0].total, (*model)->weight_bytes());
  EXPECT_EQ(record.stages()[0].done, (*model)->weight_bytes());
  EXPECT_EQ(record.stages()[1].name, "digest");
  EXPECT_EQ(record.stages()[1].total, static_cast<std::int64_t>(bytes.size()));
  EXPECT_EQ(record.stages()[1].done, record.stages()[1].total);
}

}  // namespace
}  // namespace megakernel::test
