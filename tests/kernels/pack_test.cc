// Packed weights hold the file's values exactly, in the places that the layout names.
#include "kernels/host/pack.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <random>
#include <vector>

#include "kernels/host/half.h"
#include "kernels/host/program_build.h"

namespace megakernel::test {
namespace {

using layout::PackedMatrix;
using layout::Program;
using reference::Tensor;

constexpr std::int32_t kHidden = 192, kHeadDim = 64, kKvHeads = 2, kQPerKv = 3, kFfn = 256, kVocab = 100;

float Bf16(std::uint16_t word) {
  const std::uint32_t bits = std::uint32_t{word} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// The bf16 word of a value that bf16 holds exactly.
std::uint16_t Word(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  EXPECT_EQ(bits & 0xffffu, 0u) << value;
  return static_cast<std::uint16_t>(bits >> 16);
}

// A two-layer model with biases, head norms and its own LM head; random bf16 weights within 2^24 of each other.
class TestModel {
 public:
  TestModel() {
    view.shape = {2, kHidden, kKvHeads * kQPerKv, kKvHeads, kHeadDim, kFfn, kVocab, 1e-6, {}};
    view.embedding = Make(kVocab, kHidden);
    view.final_norm = Make(1, kHidden);
    view.lm_head = Make(kVocab, kHidden);
    const std::int64_t q = view.shape.QueryWidth(), kv = view.shape.KvWidth();
    for (int i = 0; i < 2; ++i) {
      reference::Layer layer;
      layer.attention_norm = Make(1, kHidden);
      layer.wq = Make(q, kHidden), layer.wk = Make(kv, kHidden), layer.wv = Make(kv, kHidden);
      layer.bq = Make(1, q), layer.bk = Make(1, kv), layer.bv = Make(1, kv);
      layer.q_norm = Make(1, kHeadDim), layer.k_norm = Make(1, kHeadDim);
      layer.wo = Make(kHidden, q);
      layer.ffn_norm = Make(1, kHidden);
      layer.w_gate = Make(kFfn, kHidden), layer.w_up = Make(kFfn, kHidden);
      layer.w_down = Make(kHidden, kFfn);
      view.layers.push_back(layer);
    }
  }

  static float At(const Tensor& t, std::int64_t row, std::int64_t col) {
    return Bf16(static_cast<const std::uint16_t*>(t.data)[row * t.cols + col]);
  }
  static void Set(const Tensor& t, std::int64_t row, std::int64_t col, float value) {
    static_cast<std::uint16_t*>(const_cast<void*>(t.data))[row * t.cols + col] = Word(value);
  }

  reference::ModelView view;

 private:
  Tensor Make(std::int64_t rows, std::int64_t cols) {
    std::vector<std::uint16_t>& words = store_.emplace_back(static_cast<std::size_t>(rows * cols));
    for (std::uint16_t& word : words) {
      const std::uint32_t r = random_();
      const std::uint32_t exponent = 115 + (r >> 8) % 24;
      word = static_cast<std::uint16_t>((r & 0x807fu) | exponent << 7);
    }
    return {reference::ElementType::kBF16, rows, cols, words.data()};
  }

  std::mt19937 random_{7};
  std::deque<std::vector<std::uint16_t>> store_;
};

class Packed {
 public:
  explicit Packed(const reference::ModelView& view) {
    std::string error;
    EXPECT_TRUE(host::BuildProgram(view, {132, 232448}, {}, program, error)) << error;
    arena.assign(static_cast<std::size_t>(program.weight_bytes), 0xff);
    host::PackWeights(view, program, 2, arena.data(), statistics);
  }

  // What the kernel makes of an element; `scale` is its row's.
  float Value(std::int64_t base, const PackedMatrix& m, std::int32_t group, std::int32_t row, std::int32_t col,
              float scale) const {
    std::uint16_t half;
    std::memcpy(&half, arena.data() + base + m.offset + m.ElementOffset(group, row, col), sizeof(half));
    return host::HalfToFloat(half) * scale;
  }
  float Float(std::int64_t offset, std::int64_t index) const {
    float value;
    std::memcpy(&value, arena.data() + offset + 4 * index, sizeof(value));
    return value;
  }
  float Vector(std::int32_t layer, std::int64_t index) const {
    return Float(program.vectors, std::int64_t{layer} * program.vector.total + index);
  }

  Program program;
  std::vector<std::uint8_t> arena;
  host::PackStatistics statistics;
};

TEST(HalfTest, EveryFiniteHalfSurvives) {
  for (std::uint32_t word = 0; word < 0x10000; ++word) {
    const auto half = static_cast<std::uint16_t>(word);
    if ((half & 0x7c00) == 0x7c00) continue;  // infinite or not a number
    ASSERT_EQ(host::FloatToHalf(host::HalfToFloat(half)), half);
  }
}

TEST(HalfTest, RoundsToNearestTiesToEven) {
  EXPECT_EQ(host::FloatToHalf(1.0f + std::ldexp(1.0f, -11)), 0x3c00);
  EXPECT_EQ(host::FloatToHalf(1.0f + std::ldexp(3.0f, -11)), 0x3c02);
  EXPECT_EQ(host::FloatToHalf(1.0f + std::ldexp(1.0f, -11) + std::ldexp(1.0f, -20)), 0x3c01);
  EXPECT_EQ(host::FloatToHalf(std::ldexp(1.0f, -25)), 0);
  EXPECT_EQ(host::FloatToHalf(std::ldexp(3.0f, -25)), 2);
  EXPECT_EQ(host::FloatToHalf(-std::ldexp(1.0f, -24)), 0x8001);
}

TEST(PackTest, QkvRowsAreQueryHeadsThenKeyThenValueOfAGroup) {
  const TestModel model;
  const Packed packed(model.view);
  const Program& p = packed.program;
  const PackedMatrix& m = p.matrix[layout::kPhaseQkv];
  for (std::int32_t l = 0; l < 2; ++l) {
    const reference::Layer& w = model.view.layers[static_cast<std::size_t>(l)];
    for (std::int32_t group = 0; group < kKvHeads; ++group) {
      for (std::int32_t row = 0; row < (kQPerKv + 2) * kHeadDim; ++row) {
        const std::int32_t head = row / kHeadDim;
        const Tensor& source = head < kQPerKv ? w.wq : head == kQPerKv ? w.wk : w.wv;
        const Tensor& bias = head < kQPerKv ? w.bq : head == kQPerKv ? w.bk : w.bv;
        const std::int32_t from = head < kQPerKv ? group * kQPerKv * kHeadDim + row : group * kHeadDim + row % kHeadDim;
        const float scale = packed.Vector(l, p.vector.qkv_scale + group * m.group_rows + row);
        ASSERT_EQ(packed.Vector(l, p.vector.qkv_bias + group * m.group_rows + row), TestModel::At(bias, 0, from));
        for (std::int32_t col = 0; col < kHidden; ++col) {
          ASSERT_EQ(packed.Value(l * p.layer_bytes, m, group, row, col, scale), TestModel::At(source, from, col))
              << "layer " << l << " group " << group << " row " << row << " col " << col;
        }
      }
    }
  }
  EXPECT_EQ(packed.statistics.inexact, 0);
}

TEST(PackTest, GateUpRowsAlternateByEight) {
  const TestModel model;
  const Packed packed(model.view);
  const Program& p = packed.program;
  const PackedMatrix& m = p.matrix[layout::kPhaseGateUp];
  const reference::Layer& w = model.view.layers[1];
  for (std::int32_t group = 0; group < kKvHeads; ++group) {
    for (std::int32_t row = 0; row < 2 * kFfn / kKvHeads; ++row) {
      const std::int32_t unit = group * kFfn / kKvHeads + row / 16 * 8 + row % 8;
      const Tensor& source = row % 16 < 8 ? w.w_gate : w.w_up;
      const float scale = packed.Vector(1, p.vector.gate_up_scale + group * m.group_rows + row);
      for (std::int32_t col = 0; col < kHidden; ++col) {
        ASSERT_EQ(packed.Value(p.layer_bytes, m, group, row, col, scale), TestModel::At(source, unit, col))
            << "group " << group << " row " << row << " col " << col;
      }
    }
  }
}

TEST(PackTest, PanelsAreCutByColumnsAndVocabularyIsWhole) {
  const TestModel model;
  const Packed packed(model.view);
  const Program& p = packed.program;
  const reference::Layer& w = model.view.layers[0];
  for (const bool down : {false, true}) {
    const PackedMatrix& m = p.matrix[down ? layout::kPhaseDown : layout::kPhaseO];
    const Tensor& source = down ? w.w_down : w.wo;
    for (std::int32_t row = 0; row < kHidden; ++row) {
      const float scale = packed.Vector(0, (down ? p.vector.down_scale : p.vector.o_scale) + row);
      for (std::int64_t col = 0; col < source.cols; ++col) {
        const auto group = static_cast<std::int32_t>(col / m.cols), inside = static_cast<std::int32_t>(col % m.cols);
        ASSERT_EQ(packed.Value(0, m, group, row, inside, scale), TestModel::At(source, row, col)) << row << " " << col;
      }
    }
  }
  for (std::int32_t row = 0; row < kVocab; ++row) {
    for (std::int32_t col = 0; col < kHidden; ++col) {
      ASSERT_EQ(packed.Value(0, p.matrix[layout::kPhaseHead], 0, row, col, packed.Float(p.head_scale, row)),
                TestModel::At(model.view.lm_head, row, col));
      ASSERT_EQ(packed.Value(0, p.embedding, 0, row, col, packed.Float(p.embedding_scale, row)),
                TestModel::At(model.view.embedding, row, col));
    }
  }
  for (std::int32_t i = 0; i < kHidden; ++i) {
    ASSERT_EQ(packed.Vector(1, p.vector.ffn_norm + i), TestModel::At(model.view.layers[1].ffn_norm, 0, i));
    ASSERT_EQ(packed.Float(p.final_norm, i), TestModel::At(model.view.final_norm, 0, i));
  }
  // Rows beyond the vocabulary, over the poison that the arena held.
  const PackedMatrix& head = p.matrix[layout::kPhaseHead];
  ASSERT_GT(head.group_rows, kVocab);
  for (std::int32_t row = kVocab; row < head.group_rows; ++row) ASSERT_EQ(packed.Value(0, head, 0, row, 5, 1.0f), 0.0f);
}

// A row of the LM head whose maximum is `maximum`, its other values maximum x 2^-1, -2^-2 ... 2^-30, zeros.
void SetRow(TestModel& model, std::int64_t row, float maximum) {
  for (std::int32_t col = 0; col < kHidden; ++col) TestModel::Set(model.view.lm_head, row, col, 0.0f);
  for (int i = 0; i <= 30; ++i) {
    TestModel::Set(model.view.lm_head, row, 3 * i, std::ldexp(i % 2 != 0 ? -maximum : maximum, -i));
  }
}

TEST(PackTest, ExtremeRowsAreExact) {
  TestModel model;
  const float largest = Bf16(0x7f7f), odd = 1.0f + 127.0f / 128;  // all eight bits set
  SetRow(model, 0, largest);
  SetRow(model, 1, odd);
  SetRow(model, 2, 1.0f);
  SetRow(model, 3, std::ldexp(odd, -89));  // its 2^-30th is the smallest that is normal
  for (std::int32_t col = 0; col < kHidden; ++col) TestModel::Set(model.view.lm_head, 4, col, 0.0f);
  for (std::int32_t col = 0; col < kHidden; ++col) {  // subnormal bf16 only, down to the smallest
    TestModel::Set(model.view.lm_head, 5, col, Bf16(static_cast<std::uint16_t>(col % 128)));
    TestModel::Set(model.view.lm_head, 6, col, Bf16(1));
  }
  const Packed packed(model.view);
  EXPECT_EQ(packed.statistics.inexact, 0);
  for (std::int32_t row = 0; row < 7; ++row) {
    const float scale = packed.Float(packed.program.head_scale, row);
    EXPECT_TRUE(std::isnormal(scale) && std::isnormal(1.0f / scale)) << row << ": " << scale;
    for (std::int32_t col = 0; col < kHidden; ++col) {
      ASSERT_EQ(packed.Value(0, packed.program.matrix[layout::kPhaseHead], 0, row, col, scale),
                TestModel::At(model.view.lm_head, row, col))
          << row << " " << col;
    }
  }
}

TEST(PackTest, CountsValuesThatChange) {
  TestModel model;
  TestModel::Set(model.view.lm_head, 0, 0, Bf16(0x7f7f));
  for (std::int32_t col = 1; col < kHidden; ++col) TestModel::Set(model.view.lm_head, 0, col, 0.0f);
  TestModel::Set(model.view.lm_head, 0, 7, 1.0f);                                     // far below: becomes zero
  TestModel::Set(model.view.lm_head, 0, 8, std::ldexp(1.0f, -126));                   // its quotient is no float at all
  TestModel::Set(model.view.lm_head, 0, 9, std::ldexp(1.0f + 1.0f / 128, 128 - 35));  // loses its last bit
  TestModel::Set(model.view.lm_head, 0, 10, std::ldexp(1.0f, 128 - 35));              // does not
  const Packed packed(model.view);
  EXPECT_EQ(packed.statistics.inexact, 3);
}

}  // namespace
}  // namespace megakernel::test
