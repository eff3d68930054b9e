// Programs of every preset: regions apart and inside their limits, every weight computed once; refusals name limits.
#include "kernels/host/program_build.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/hf_config.h"
#include "kernels/host/placement.h"
#include "kernels/layout/mailbox.h"
#include "tests/support/temp_checkpoint.h"

namespace megakernel::test {
namespace {

using host::BuildProgram;
using host::DeviceLimits;
using host::ProgramOptions;
using layout::PackedMatrix;
using layout::Program;
using testing::HasSubstr;

constexpr DeviceLimits kDevice{132, 232448};  // 227 KiB of dynamic shared memory
constexpr char kData[2] = {};                 // tensors that are there; BuildProgram reads no element

reference::ModelView View(const ModelConfig& config) {
  reference::ModelView view;
  view.shape = {config.num_layers,   config.hidden,   config.num_q_heads,
                config.num_kv_heads, config.head_dim, config.ffn,
                config.vocab,        config.rms_eps,  {}};
  view.embedding.data = &kData[0];
  view.lm_head.data = config.tied_embedding ? &kData[0] : &kData[1];
  view.layers.resize(static_cast<std::size_t>(config.num_layers));
  for (reference::Layer& layer : view.layers) {
    if (config.qk_norm) layer.q_norm.data = layer.k_norm.data = &kData[0];
    if (config.qkv_bias) layer.bq.data = layer.bk.data = layer.bv.data = &kData[0];
  }
  return view;
}

reference::ModelView Preset(const std::string& name) {
  const auto config = ParseHfConfig(PresetText(name), name);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? View(*config) : reference::ModelView{};
}

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(MEGAKERNEL_SOURCE_DIR) + "/configs/models")) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

struct Span {
  const char* name;
  std::int64_t offset, size;
};

// Every span lies in [0, total) and touches no other.
void ExpectApart(std::vector<Span> spans, std::int64_t total, std::int64_t alignment) {
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.offset < b.offset; });
  std::int64_t end = 0;
  for (const Span& span : spans) {
    EXPECT_GE(span.offset, end) << span.name;
    EXPECT_GT(span.size, 0) << span.name;
    EXPECT_EQ(span.offset % alignment, 0) << span.name;
    end = span.offset + span.size;
  }
  EXPECT_LE(end, total);
}

// Sizes as program.h documents them.
void ExpectWorkspaceApart(const Program& p) {
  const layout::WorkspaceOffsets& w = p.workspace;
  const std::int64_t rows = p.max_rows, groups = p.groups;
  ExpectApart({{"sums", w.sums, 2 * rows * p.hidden * 8},
               {"qkv", w.qkv, groups * rows * p.QkvRows() * 8},
               {"partial", w.partial, groups * p.max_items * p.q_per_kv * (p.head_dim + 2) * 8},
               {"attention", w.attention, groups * rows * p.q_per_kv * p.head_dim / 2 * 8},
               {"act", w.act, rows * p.ffn / 2 * 8},
               {"candidates", w.candidates, p.num_blocks * rows * 16},
               {"tokens", w.tokens, 2 * rows * 8},
               {"steps", w.steps, 2 * layout::kStepPackets * 8},
               {"logits", w.logits, rows * p.vocab * 4},
               {"scheduler", w.scheduler, sizeof(layout::SchedulerState)},
               {"samplings", w.samplings, p.max_lanes * static_cast<std::int64_t>(sizeof(layout::LaneSampling))},
               {"page_table", w.page_table, std::int64_t{p.max_lanes} * p.max_pages * 4},
               {"trace", w.trace, std::int64_t{p.num_blocks} * layout::kTraceWords * 8}},
              w.total, 1024);
}

void ExpectSharedApart(const Program& p) {
  const layout::SharedOffsets& s = p.shared;
  const std::int64_t rows = p.max_rows;
  EXPECT_LE(s.total, kDevice.shared_bytes);
  EXPECT_GE(p.num_slots, host::kLeastSlots);
  EXPECT_GE(p.act_stride, 2 * p.hidden);
  EXPECT_GE(p.panel_stride, 2 * std::max(p.PanelCols(), p.FfnPerGroup()));
  ExpectApart({{"slots", s.slots, std::int64_t{p.num_slots} * layout::kTileBytes},
               {"barriers", s.barriers, 16 * p.num_slots + 32},
               {"done", s.done, 4 * p.num_slots},
               {"act", s.act, rows * p.act_stride},
               {"panel", s.panel, rows * p.panel_stride},
               {"partial", s.partial, std::int64_t{p.task_capacity} * layout::kTaskRows * rows * 4},
               {"query", s.query, rows * p.q_per_kv * (p.head_dim + 8) * 2},
               {"key", s.key, rows * p.head_dim * 2},
               {"value", s.value, rows * p.head_dim * 2},
               {"rope", s.rope, rows * p.head_dim / 2 * 8},
               {"vectors", s.vectors, 4 * p.held.total},
               {"owner", s.owner, 2 * p.hidden},
               {"own", s.own, 3 * rows * p.own_cols * 8},
               {"squares", s.squares, rows * p.hidden / 64 * 4},
               {"step", s.step, layout::kStepPackets * 4},
               {"misc", s.misc, layout::kBlockStateBytes}},
              s.total, 16);
}

void ExpectWeightsApart(const Program& p) {
  std::vector<Span> layer;
  for (int phase = 0; phase < layout::kPhaseHead; ++phase) {
    layer.push_back({"matrix", p.matrix[phase].offset, p.matrix[phase].Bytes()});
  }
  ExpectApart(layer, p.layer_bytes, 1024);
  const PackedMatrix& head = p.matrix[layout::kPhaseHead];
  std::vector<Span> arena = {{"layers", 0, p.num_layers * p.layer_bytes},
                             {"head", head.offset, head.Bytes()},
                             {"head_scale", p.head_scale, std::int64_t{4} * head.group_rows},
                             {"final_norm", p.final_norm, std::int64_t{4} * p.hidden},
                             {"vectors", p.vectors, std::int64_t{4} * p.num_layers * p.vector.total}};
  if (p.embedding.offset != head.offset) {
    arena.push_back({"embedding", p.embedding.offset, p.embedding.Bytes()});
    arena.push_back({"embedding_scale", p.embedding_scale, std::int64_t{4} * p.embedding.group_rows});
  }
  ExpectApart(arena, p.weight_bytes, 1024);
}

// Every row of every matrix belongs to exactly one block of its group, and a pass holds at least one row group.
void ExpectRowsOwnedOnce(const Program& p) {
  const std::int32_t rows[] = {p.QkvRows(), p.hidden, 2 * p.FfnPerGroup(), p.hidden, p.vocab};
  const std::int32_t cols[] = {p.hidden, p.PanelCols(), p.hidden, p.FfnPerGroup(), p.hidden};
  for (int phase = 0; phase < layout::kNumPhases; ++phase) {
    SCOPED_TRACE(testing::Message() << "phase " << phase);
    const PackedMatrix& m = p.matrix[phase];
    const bool head = phase == layout::kPhaseHead;
    EXPECT_EQ(m.groups, head ? 1 : p.groups);
    EXPECT_EQ(m.cols, cols[phase]);
    EXPECT_GE(m.group_rows, rows[phase]);
    EXPECT_EQ(m.group_rows % m.RowsPerRowGroup(), 0);
    if (!head) {
      EXPECT_GE(p.task_capacity, m.cols / layout::kChunkCols * m.strips / 2);
    }
    const std::int32_t members = head ? p.num_blocks : p.blocks_per_group;
    std::vector<int> owners(static_cast<std::size_t>(m.RowGroups()), 0);
    for (std::int32_t member = 0; member < members; ++member) {
      const layout::RowGroupShare share = layout::ShareOf(m.RowGroups(), member, members);
      for (std::int32_t i = share.first; i < share.first + share.count; ++i) ++owners.at(static_cast<std::size_t>(i));
    }
    EXPECT_EQ(std::count(owners.begin(), owners.end(), 1), m.RowGroups());
  }
  EXPECT_LE(p.LayerBlocks(), p.num_blocks);
  EXPECT_EQ(p.matrix[layout::kPhaseO].strips, p.matrix[layout::kPhaseDown].strips);
}

// The preset's program on grids of 132, 127, 100, 64 and 33 blocks; returns the grids that shared memory refuses.
std::vector<std::int32_t> CheckGrids(const std::string& name) {
  std::vector<std::int32_t> refused;
  const reference::ModelView view = Preset(name);
  for (const std::int32_t blocks : {132, 127, 100, 64, 33}) {
    SCOPED_TRACE(name + " on " + std::to_string(blocks) + " blocks");
    ProgramOptions options;
    options.persistent_blocks = blocks;
    Program program;
    std::string error;
    if (!BuildProgram(view, kDevice, options, program, error)) {
      EXPECT_THAT(error, HasSubstr("shared memory 232448: a block needs"));
      refused.push_back(blocks);
      continue;
    }
    EXPECT_EQ(program.num_blocks, blocks);
    EXPECT_EQ(program.qk_norm, view.layers[0].q_norm ? 1 : 0);
    ExpectWorkspaceApart(program);
    ExpectSharedApart(program);
    ExpectWeightsApart(program);
    ExpectRowsOwnedOnce(program);
  }
  return refused;
}

TEST(ProgramBuildTest, PresetsOnManyGrids) {
  // Grids on which a block's share does not fit shared memory; all others do.
  const std::vector<std::pair<std::string, std::vector<std::int32_t>>> refused = {
      {"llama-3.2-1b", {}}, {"llama-3.2-3b", {100, 64, 33}}, {"llama-tiny", {}}, {"qwen3-0.6b", {}},
      {"qwen3-1.7b", {}},   {"qwen3-4b", {64, 33}},          {"qwen3-tiny", {}}, {"smollm2-135m", {}},
      {"smollm2-tiny", {}},
  };
  std::vector<std::string> names = {"qwen2-tiny"};  // RefusesFfnOfQwen2Tiny
  for (const auto& [name, grids] : refused) {
    EXPECT_EQ(CheckGrids(name), grids) << name;
    names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(PresetNames(), names) << "a preset without an expectation here";
}

std::string Error(const reference::ModelView& view, const ProgramOptions& options,
                  const DeviceLimits& device = kDevice) {
  Program program;
  std::string error = "of an earlier call";
  EXPECT_FALSE(BuildProgram(view, device, options, program, error));
  return error;
}

TEST(ProgramBuildTest, SucceedsAfterAnEarlierError) {
  Program program;
  std::string error = "of an earlier call";
  EXPECT_TRUE(BuildProgram(Preset("qwen3-0.6b"), kDevice, {}, program, error));
  EXPECT_EQ(error, "");
  EXPECT_EQ(program.num_blocks, 132);
  EXPECT_EQ(program.num_kv_pages, 8 * 64);
}

TEST(ProgramBuildTest, RefusedOptionsNameTheLimit) {
  const reference::ModelView view = Preset("qwen3-0.6b");
  const auto with = [&](auto set) {
    ProgramOptions options;
    set(options);
    return Error(view, options);
  };
  for (const std::int32_t blocks : {-1, 7, 133}) {
    EXPECT_EQ(with([&](ProgramOptions& o) { o.persistent_blocks = blocks; }),
              "persistent_blocks " + std::to_string(blocks) +
                  ": must be 0 (one per SM) or from 8 (KV heads, rows of a step) to 132 (SMs)");
  }
  EXPECT_EQ(with([](ProgramOptions& o) { o.max_lanes = 0; }), "max_lanes 0: must be from 1 to 128");
  EXPECT_EQ(with([](ProgramOptions& o) { o.max_lanes = 129; }), "max_lanes 129: must be from 1 to 128");
  EXPECT_EQ(with([](ProgramOptions& o) { o.max_context = 0; }), "max_context 0: must be from 1 to 1048576");
  EXPECT_EQ(with([](ProgramOptions& o) { o.max_context = 1048577; }), "max_context 1048577: must be from 1 to 1048576");
  for (const std::int32_t tokens : {-64, 0, 32, 96}) {
    EXPECT_EQ(with([&](ProgramOptions& o) { o.page_tokens = tokens; }),
              "page_tokens " + std::to_string(tokens) + ": must be a power of two from 64 to 1048576");
  }
  EXPECT_EQ(with([](ProgramOptions& o) { o.num_kv_pages = -1; }),
            "num_kv_pages -1: must be 0 (pages for every lane) or positive");
  EXPECT_EQ(with([](ProgramOptions& o) { o.window_layers = 0; }), "window_layers 0: must be from 1 to 5");
  EXPECT_EQ(with([](ProgramOptions& o) { o.window_head = 6; }), "window_head 6: must be from 1 to 5");
  EXPECT_EQ(Error(view, {}, {7, 232448}), "num_sms 7: must be at least 8, a block for each KV head and each row");
  EXPECT_THAT(Error(view, {}, {132, 100000}), HasSubstr("no persistent_blocks would fit"));
  ProgramOptions hundred;
  hundred.persistent_blocks = 100;
  EXPECT_THAT(Error(Preset("llama-3.2-3b"), hundred), HasSubstr("persistent_blocks 132 would fit"));
  EXPECT_THAT(with([](ProgramOptions& o) { o.max_context = 1048576; }), HasSubstr("with max_context 1048576"));
}

TEST(ProgramBuildTest, RefusedShapesNameTheLimit) {
  const auto with = [](auto set) {
    reference::ModelView view = Preset("smollm2-tiny");
    set(view);
    return Error(view, {});
  };
  EXPECT_EQ(with([](auto& v) { v.shape.num_kv_heads = 2; }), "num_kv_heads 2: must divide num_q_heads 9: 1, 3, 9");
  EXPECT_EQ(with([](auto& v) { v.shape.num_kv_heads = 0; }), "num_kv_heads 0: must divide num_q_heads 9: 1, 3, 9");
  EXPECT_EQ(with([](auto& v) { v.shape.num_kv_heads = 1; }), "query heads per KV head 9: must be from 1 to 8");
  EXPECT_EQ(with([](auto& v) { v.shape.head_dim = 96; }), "head_dim 96: must be 64 or 128");
  EXPECT_EQ(with([](auto& v) { v.shape.hidden = 600; }), "hidden 600: must be a multiple of 64 up to 4096");
  EXPECT_EQ(with([](auto& v) { v.shape.num_layers = 0; }), "num_layers 0: must be at least 1");
  EXPECT_EQ(with([](auto& v) { v.layers.pop_back(); }), "num_layers 2: the model has 1 layers");
  EXPECT_EQ(with([](auto& v) { v.shape.vocab = 0; }), "vocab 0: must be at least 1");
}

TEST(ProgramBuildTest, RefusesFfnOfQwen2Tiny) {
  EXPECT_EQ(Error(Preset("qwen2-tiny"), {}), "ffn 320: must be a multiple of 128 (64 for each of 2 KV heads)");
}

}  // namespace
}  // namespace megakernel::test
