// What a load told of its progress, checked as it comes.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/load_progress.h"

namespace megakernel::test {

// One stage: how often it was told, and its last numbers.
struct StageRecord {
  std::string name;
  int calls = 0;
  std::int64_t done = 0;
  std::int64_t total = 0;
};

// Must outlive the load.
class ProgressRecord {
 public:
  LoadProgress Callback() {
    return [this, loader = std::this_thread::get_id()](const char* stage, std::int64_t done, std::int64_t total) {
      EXPECT_EQ(std::this_thread::get_id(), loader);
      if (stages_.empty() || stages_.back().name != stage) {
        if (!stages_.empty()) {
          EXPECT_EQ(stages_.back().done, stages_.back().total) << "before " << stage;
        }
        stages_.push_back({.name = stage, .total = total});
      }
      StageRecord& last = stages_.back();
      EXPECT_EQ(last.total, total);
      EXPECT_GT(done, 0);
      EXPECT_GE(done, last.done);
      EXPECT_LE(done, total);
      last.done = done;
      ++last.calls;
    };
  }
  const std::vector<StageRecord>& stages() const { return stages_; }

 private:
  std::vector<StageRecord> stages_;
};

}  // namespace megakernel::test
