// A CUDA executor over a made checkpoint, driven by hand.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/cuda/cuda_executor.h"
#include "engine/model/model.h"
#include "tests/engine/cpu/runner.h"
#include "tests/support/temp_checkpoint.h"

// Skips the test, naming the cause, where no GPU suits.
#define SKIP_WITHOUT_GPU()                                                          \
  if (const auto facts = megakernel::FindCudaDevice(0); !facts.ok()) {              \
    GTEST_SKIP() << "no GPU to test on: " << std::string(facts.status().message()); \
  }

namespace megakernel::test {

// A checkpoint of a preset, loaded. Made once a preset.
inline const Model& PresetModel(const std::string& preset) {
  struct Loaded {
    explicit Loaded(const std::string& name) : checkpoint(name, 7) {
      EXPECT_TRUE(checkpoint.status().ok()) << checkpoint.status();
      auto opened = LoadModel(checkpoint.path());
      if (!opened.ok()) ADD_FAILURE() << opened.status();
      model = *std::move(opened);
    }
    TempCheckpoint checkpoint;
    std::unique_ptr<Model> model;
  };
  static std::map<std::string, Loaded> models;
  return *models.try_emplace(preset, preset).first->second.model;
}

inline CudaOptions SmallGpu() {
  CudaOptions options;
  options.max_context = 2048;
  options.num_pages = 1024;
  options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  return options;
}

inline Runner NewCudaRunner(const Model& model, const CudaOptions& options) {
  auto executor = NewCudaExecutor(model, options);
  if (!executor.ok()) ADD_FAILURE() << executor.status();
  return Runner(*std::move(executor));
}

inline Ask GpuPrompt(const Model& model, int length, int max_tokens, std::uint32_t seed = 1) {
  Ask ask;
  ask.tokens = RandomTokens(length, model.config().vocab, seed * 1000 + static_cast<std::uint32_t>(length));
  ask.max_tokens = max_tokens;
  ask.sampling.logprobs = -1;
  return ask;
}

}  // namespace megakernel::test
