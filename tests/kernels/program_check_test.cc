// The checker of programs passes what BuildProgram makes of every preset on many grids, and refuses programs that were
// broken on purpose, by name.
#include "kernels/host/program_check.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "kernels/host/program_build.h"

namespace megakernel {
namespace {

using layout::Program;

// Sizes of a model without elements; BuildProgram reads no more.
reference::ModelView ViewOf(int layers, int hidden, int q_heads, int kv_heads, int head_dim, int ffn, int vocab,
                            bool tied) {
  static const float element = 0.0f;
  reference::ModelView view;
  view.shape = {layers, hidden, q_heads, kv_heads, head_dim, ffn, vocab, 1e-6, {}};
  view.embedding = view.lm_head = {reference::ElementType::kF32, vocab, hidden, &element};
  static const float other = 0.0f;
  if (!tied) view.lm_head.data = &other;
  view.layers.resize(static_cast<std::size_t>(layers));
  return view;
}

Program Built(const reference::ModelView& view, int blocks = 0, int max_context = 4096) {
  host::ProgramOptions options;
  options.persistent_blocks = blocks;
  options.max_context = max_context;
  Program program;
  std::string error;
  EXPECT_TRUE(host::BuildProgram(view, {132, 232448}, options, program, error)) << error;
  return program;
}

reference::ModelView Qwen() {
  return ViewOf(28, 1024, 16, 8, 128, 3072, 151936, true);
}

TEST(ProgramCheckTest, WhatIsBuiltPasses) {
  for (const int blocks : {8, 9, 24, 60, 100, 127, 131, 132}) {
    EXPECT_EQ(host::CheckProgram(Built(Qwen(), blocks)), "") << blocks;
    if (blocks >= 100) {  // fewer cannot hold its panels
      EXPECT_EQ(host::CheckProgram(Built(ViewOf(16, 2048, 32, 8, 64, 8192, 128256, true), blocks)), "") << blocks;
    }
    EXPECT_EQ(host::CheckProgram(Built(ViewOf(30, 576, 9, 3, 64, 1536, 49152, true), blocks)), "") << blocks;
    EXPECT_EQ(host::CheckProgram(Built(ViewOf(3, 512, 16, 4, 64, 1024, 3000, false), blocks)), "") << blocks;
  }
  EXPECT_EQ(host::CheckProgram(Built(Qwen(), 0, 32768)), "");
}

struct Breakage {
  const char* name;
  std::function<void(Program&)> breaks;
  const char* message;  // begins like this
};

class BrokenProgramTest : public ::testing::TestWithParam<Breakage> {};

TEST_P(BrokenProgramTest, IsRefusedByName) {
  Program program = Built(Qwen());
  GetParam().breaks(program);
  const std::string wrong = host::CheckProgram(program);
  EXPECT_EQ(wrong.rfind(GetParam().message, 0), 0u) << '"' << wrong << '"';
}

INSTANTIATE_TEST_SUITE_P(
    All, BrokenProgramTest,
    ::testing::Values(
        // A wait without its signaller: a block that is not launched, a row group that nobody computes.
        Breakage{"BlockMissing", [](Program& p) { p.num_blocks = p.LayerBlocks() - 1; },
                 "num_blocks is 127, must be in"},
        Breakage{"FewerBlocksThanRows", [](Program& p) { p.num_blocks = 7, p.blocks_per_group = 0; },
                 "blocks_per_group is 0"},
        Breakage{"RowGroupMissing", [](Program& p) { p.matrix[0].group_rows -= 8 * p.matrix[0].strips; },
                 "QKV rows is"},
        Breakage{"OwnersDiffer", [](Program& p) { p.matrix[3].strips = p.matrix[3].strips == 8 ? 4 : 8; },
                 "down strips is"},
        Breakage{"TooManyGroupsToCount", [](Program& p) { p.groups = 256; }, "groups is 256"},
        Breakage{"OwnColumnsDoNotFit", [](Program& p) { p.own_cols = 1; }, "own_cols is 1, must be at least"},
        // Sums cut elsewhere than the contract says.
        Breakage{"PanelCut", [](Program& p) { p.matrix[1].cols = 128; }, "O columns is 128, must be 256"},
        Breakage{"OddTile", [](Program& p) { p.matrix[2].strips = 3; }, "gate/up strips is 3"},
        Breakage{"HeadDim", [](Program& p) { p.head_dim = 96; }, "head_dim is 96"},
        // Memory over memory.
        Breakage{"MatricesOverlap", [](Program& p) { p.matrix[2].offset = p.matrix[1].offset + 128; },
                 "layer gate/up is"},
        Breakage{"LayerTooSmall", [](Program& p) { p.layer_bytes -= 1024; }, "layer total is"},
        Breakage{"HeadOverLayers", [](Program& p) { p.matrix[4].offset -= 1024, p.embedding.offset -= 1024; },
                 "weights LM head is"},
        Breakage{"ArenaTooSmall", [](Program& p) { p.weight_bytes -= 4096; }, "weights total is"},
        Breakage{"MisalignedTile", [](Program& p) { p.matrix[3].offset += 8; }, "down offset mod 128 is 8"},
        Breakage{"CandidatesOverlap", [](Program& p) { p.workspace.candidates = p.workspace.tokens - 1024; },
                 "workspace tokens is"},
        Breakage{"SumsTooShort", [](Program& p) { p.workspace.qkv = p.workspace.sums + 1024; }, "workspace qkv is"},
        Breakage{"PageTableOutside", [](Program& p) { p.workspace.page_table = p.workspace.total; },
                 "workspace total is"},
        Breakage{"SlotsOverBarriers", [](Program& p) { ++p.num_slots; }, "shared barriers is"},
        Breakage{"SharedTooSmall", [](Program& p) { p.shared.total -= 64; }, "shared total is"},
        Breakage{"WindowWiderThanRing", [](Program& p) { p.window_head = p.num_slots + 1; }, "num_slots is"},
        Breakage{"PassTooSmall", [](Program& p) { p.task_capacity = 1; }, "task_capacity is 1"},
        // Pages and lanes.
        Breakage{"TooManyRows", [](Program& p) { p.max_rows = 9; }, "max_rows is 9"},
        Breakage{"TooManyLanes", [](Program& p) { p.max_lanes = 129; }, "max_lanes is 129"},
        Breakage{"PageTableShort", [](Program& p) { --p.max_pages; }, "max_pages is 63, must be 64"},
        Breakage{"ItemsShort", [](Program& p) { --p.max_items; }, "max_items is 511"},
        Breakage{"OddPages", [](Program& p) { p.kv.page_tokens = 96; }, "kv.page_tokens is 96, must be 64"},
        Breakage{"WideElements", [](Program& p) { p.kv.element_bytes = 4; }, "kv.element_bytes is 4"},
        Breakage{"OtherHeads", [](Program& p) { p.kv.num_kv_heads = 4; }, "kv.num_kv_heads is 4"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace megakernel
