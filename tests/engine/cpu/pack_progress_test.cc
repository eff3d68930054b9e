// Packing tells how far it is, on any number of threads, to the last byte.
#include <gtest/gtest.h>

#include "engine/cpu/cpu_executor.h"
#include "tests/engine/cpu/synthetic_model.h"
#include "tests/support/progress_record.h"

namespace megakernel::test {
namespace {

TEST(PackProgressTest, ReachesTheWhole) {
  const SyntheticModel model(SyntheticOptions{.vocab = 4000});
  for (const CpuPrecision precision : {CpuPrecision::kInt16, CpuPrecision::kFp32}) {
    for (const std::int32_t threads : {1, 2, 5}) {
      ProgressRecord record;
      CpuOptions options;
      options.threads = threads;
      options.num_pages = 4;
      options.precision = precision;
      options.progress = record.Callback();
      const auto executor = NewCpuExecutor(model, options);
      ASSERT_TRUE(executor.ok()) << executor.status();
      ASSERT_EQ(record.stages().size(), 1u) << threads;
      EXPECT_EQ(record.stages()[0].name, "pack");
      EXPECT_EQ(record.stages()[0].total, (*executor)->info().weight_bytes);
      EXPECT_EQ(record.stages()[0].done, record.stages()[0].total);
      // Alone, the loader takes every piece: 14 matrices of one piece and 16 pieces of the head. Others may take all.
      EXPECT_GE(record.stages()[0].calls, threads == 1 ? 30 : 1);
    }
  }
}

}  // namespace
}  // namespace megakernel::test
