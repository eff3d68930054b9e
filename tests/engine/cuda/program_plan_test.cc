// Which program a model gets on an H100: grid, context and pages, and what is refused by name.
#include "engine/cuda/program_plan.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/match.h"
#include "engine/model/hf_config.h"
#include "tests/support/temp_checkpoint.h"

namespace megakernel::test {
namespace {

DeviceFacts H100() {
  DeviceFacts facts;
  facts.name = "NVIDIA H100";
  facts.num_sms = 132;
  facts.shared_bytes = 232448;
  facts.free_bytes = std::int64_t{78} << 30;
  return facts;
}

ModelConfig Config(const std::string& preset) {
  auto config = ParseHfConfig(PresetText(preset), preset);
  EXPECT_TRUE(config.ok()) << config.status();
  return *config;
}

// Sizes without elements: planning reads no more.
reference::ModelView ViewOf(const ModelConfig& c) {
  static const char data[2] = {};
  reference::ModelView view;
  view.shape = {c.num_layers, c.hidden, c.num_q_heads, c.num_kv_heads, c.head_dim, c.ffn, c.vocab, c.rms_eps, {}};
  view.embedding.data = &data[0];
  view.lm_head.data = c.tied_embedding ? &data[0] : &data[1];
  view.layers.resize(static_cast<std::size_t>(c.num_layers));
  return view;
}

absl::StatusOr<layout::Program> Plan(const std::string& preset, const CudaOptions& options,
                                     const DeviceFacts& facts = H100()) {
  const ModelConfig config = Config(preset);
  return PlanCudaProgram(ViewOf(config), config, facts, options);
}

TEST(ProgramPlanTest, EverySupportedModelGetsAGridAndALongContextByItself) {
  struct Expected {
    const char* preset;
    std::int32_t blocks, context;
  };
  for (const Expected& e : {Expected{"qwen3-0.6b", 132, 32768}, Expected{"qwen3-1.7b", 132, 32768},
                            Expected{"qwen3-4b", 132, 8192}, Expected{"llama-3.2-1b", 132, 32768},
                            Expected{"llama-3.2-3b", 132, 8192}, Expected{"smollm2-135m", 132, 8192}}) {
    const auto program = Plan(e.preset, {});
    ASSERT_TRUE(program.ok()) << e.preset << ": " << program.status();
    EXPECT_EQ(program->num_blocks, e.blocks) << e.preset;
    EXPECT_EQ(program->max_context, e.context) << e.preset;
    EXPECT_GE(std::int64_t{program->num_kv_pages} * program->kv.page_tokens, 4 * e.context) << e.preset;
  }
}

TEST(ProgramPlanTest, WhatIsAskedForIsTakenOrRefused) {
  CudaOptions options;
  options.max_context = 1000;
  options.persistent_blocks = 100;
  options.num_pages = 77;
  const auto program = Plan("qwen3-0.6b", options);
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_EQ(program->num_blocks, 100);
  EXPECT_EQ(program->max_context, 1000);
  EXPECT_EQ(program->num_kv_pages, 77);

  const auto refusal = [](const std::string& preset, const CudaOptions& wrong) {
    const auto refused = Plan(preset, wrong);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnimplemented);
    return std::string(refused.status().message());
  };
  options.persistent_blocks = 133;
  EXPECT_TRUE(absl::StrContains(refusal("qwen3-0.6b", options), "from 8 (KV heads, rows of a step) to 132 (SMs)"));
  CudaOptions odd;
  odd.page_tokens = 16;
  EXPECT_TRUE(absl::StrContains(refusal("qwen3-0.6b", odd), "page_tokens 16: must be "));
  EXPECT_TRUE(absl::StrContains(refusal("qwen2-tiny", {}), "ffn 320: must be a multiple of 128"));
  CudaOptions long_context;
  long_context.max_context = 1 << 20;
  EXPECT_TRUE(absl::StrContains(refusal("qwen3-0.6b", long_context), "shared memory 232448: a block needs"));
}

TEST(ProgramPlanTest, PagesFillTheMemoryThatIsGiven) {
  CudaOptions options;
  options.kv_bytes = std::int64_t{1} << 30;
  const auto program = Plan("qwen3-0.6b", options);
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_EQ(program->num_kv_pages, options.kv_bytes / program->kv.PageBytes());
  DeviceFacts small = H100();
  small.free_bytes = std::int64_t{1} << 30;
  const auto refused = Plan("qwen3-0.6b", {}, small);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::StrContains(refused.status().message(), "free on NVIDIA H100 are 1073741824 bytes"))
      << refused.status();
}

}  // namespace
}  // namespace megakernel::test
