#include "kernels/host/pack.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/host/half.h"

namespace megakernel::host {
namespace {

using layout::PackedMatrix;
using layout::Program;
using reference::Tensor;

float ReadElement(const Tensor& t, std::int64_t row, std::int64_t col) {
  const std::int64_t i = row * t.cols + col;
  if (t.type == reference::ElementType::kF32) return static_cast<const float*>(t.data)[i];
  const std::uint16_t word = static_cast<const std::uint16_t*>(t.data)[i];
  if (t.type == reference::ElementType::kF16) return HalfToFloat(word);
  const std::uint32_t bits = std::uint32_t{word} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// The power of two s with row maximum / s in [2^14, 2^15). Not below 2^-126, so that s and 1 / s are normal floats:
// rows whose maximum is below 2^-112 then lie lower, still far above where fp16 would cut them.
float RowScale(const Tensor& t, std::int64_t row) {
  float maximum = 0.0f;
  for (std::int64_t c = 0; c < t.cols; ++c) maximum = std::fmax(maximum, std::fabs(ReadElement(t, row, c)));
  if (maximum == 0.0f) return 1.0f;
  int exponent;
  std::frexp(maximum, &exponent);
  return std::ldexp(1.0f, std::max(exponent - 15, -126));
}

class Packer {
 public:
  Packer(const Program& program, int threads, std::uint8_t* arena)
      : program_(program), threads_(threads), arena_(arena) {}

  std::int64_t inexact() const { return inexact_; }

  void PackLayer(const reference::Layer& weights, std::int32_t layer) {
    const Program& p = program_;
    float* vectors = Floats(p.vectors) + std::int64_t{layer} * p.vector.total;
    std::uint8_t* base = arena_ + layer * p.layer_bytes;
    PackVector(weights.attention_norm, vectors + p.vector.attention_norm);
    PackVector(weights.ffn_norm, vectors + p.vector.ffn_norm);
    if (weights.q_norm) PackVector(weights.q_norm, vectors + p.vector.q_norm);
    if (weights.k_norm) PackVector(weights.k_norm, vectors + p.vector.k_norm);
    PackQkv(weights, base, vectors);
    PackPanels(base, p.matrix[layout::kPhaseO], weights.wo, vectors + p.vector.o_scale);
    PackGateUp(weights, base, vectors + p.vector.gate_up_scale);
    PackPanels(base, p.matrix[layout::kPhaseDown], weights.w_down, vectors + p.vector.down_scale);
  }

  void PackVocabulary(const PackedMatrix& m, const Tensor& source, std::int64_t scale_offset) {
    float* scales = Floats(scale_offset);
    ForEach(source.rows, [&](std::int64_t row) {
      scales[row] = RowScale(source, row);
      PackRow(arena_, m, 0, static_cast<std::int32_t>(row), source, row, 0, scales[row]);
    });
  }

  void PackFinalNorm(const Tensor& source) { PackVector(source, Floats(program_.final_norm)); }

 private:
  // Calls body(i) for i in [0, count), eight at a time, on all threads.
  template <class Body>
  void ForEach(std::int64_t count, const Body& body) const {
    std::atomic<std::int64_t> next{0};
    const auto work = [&] {
      for (std::int64_t i; (i = next.fetch_add(8)) < count;) {
        for (std::int64_t j = i; j < std::min(i + 8, count); ++j) body(j);
      }
    };
    std::vector<std::thread> helpers;
    for (int t = 1; t < threads_; ++t) helpers.emplace_back(work);
    work();
    for (std::thread& helper : helpers) helper.join();
  }

  float* Floats(std::int64_t offset) const { return reinterpret_cast<float*>(arena_ + offset); }

  static void PackVector(const Tensor& t, float* out) {
    for (std::int64_t i = 0; i < t.cols; ++i) out[i] = ReadElement(t, 0, i);
  }

  // Columns [first_col, first_col + m.cols) of row `from` of `source`, divided by `scale`, become row `row` of part
  // `group`.
  void PackRow(std::uint8_t* base, const PackedMatrix& m, std::int32_t group, std::int32_t row, const Tensor& source,
               std::int64_t from, std::int64_t first_col, float scale) {
    const float inverse = 1.0f / scale;
    std::int64_t inexact = 0;
    for (std::int32_t c = 0; c < m.cols; c += 8) {
      std::uint16_t piece[8];
      for (int i = 0; i < 8; ++i) {
        const float value = ReadElement(source, from, first_col + c + i);
        piece[i] = FloatToHalf(value * inverse);
        if (HalfToFloat(piece[i]) * scale != value) ++inexact;
      }
      std::memcpy(base + m.offset + m.ElementOffset(group, row, c), piece, sizeof(piece));
    }
    if (inexact != 0) inexact_ += inexact;
  }

  void PackQkv(const reference::Layer& w, std::uint8_t* base, float* vectors) {
    const Program& p = program_;
    const PackedMatrix& m = p.matrix[layout::kPhaseQkv];
    ForEach(std::int64_t{p.groups} * p.QkvRows(), [&](std::int64_t i) {
      const auto group = static_cast<std::int32_t>(i / p.QkvRows());
      const auto row = static_cast<std::int32_t>(i % p.QkvRows());
      const std::int32_t head = row / p.head_dim, element = row % p.head_dim;
      const bool is_q = head < p.q_per_kv, is_k = head == p.q_per_kv;
      const Tensor& source = is_q ? w.wq : is_k ? w.wk : w.wv;
      const Tensor& bias = is_q ? w.bq : is_k ? w.bk : w.bv;
      const std::int64_t source_head = is_q ? std::int64_t{group} * p.q_per_kv + head : group;
      const std::int64_t from = source_head * p.head_dim + element;
      const float scale = RowScale(source, from);
      PackRow(base, m, group, row, source, from, 0, scale);
      vectors[p.vector.qkv_scale + group * m.group_rows + row] = scale;
      if (bias) vectors[p.vector.qkv_bias + group * m.group_rows + row] = ReadElement(bias, 0, from);
    });
  }

  void PackGateUp(const reference::Layer& w, std::uint8_t* base, float* scales) {
    const Program& p = program_;
    const PackedMatrix& m = p.matrix[layout::kPhaseGateUp];
    ForEach(p.ffn, [&](std::int64_t unit) {
      const auto group = static_cast<std::int32_t>(unit / p.FfnPerGroup());
      const auto local = static_cast<std::int32_t>(unit % p.FfnPerGroup());
      for (int up = 0; up < 2; ++up) {
        const Tensor& source = up != 0 ? w.w_up : w.w_gate;
        const std::int32_t row = local / 8 * 16 + 8 * up + local % 8;
        const float scale = RowScale(source, unit);
        PackRow(base, m, group, row, source, unit, 0, scale);
        scales[group * m.group_rows + row] = scale;
      }
    });
  }

  // A matrix whose columns are cut by KV head: one scale per row for all parts.
  void PackPanels(std::uint8_t* base, const PackedMatrix& m, const Tensor& source, float* scales) {
    ForEach(source.rows, [&](std::int64_t row) {
      scales[row] = RowScale(source, row);
      for (std::int32_t group = 0; group < m.groups; ++group) {
        PackRow(base, m, group, static_cast<std::int32_t>(row), source, row, std::int64_t{group} * m.cols, scales[row]);
      }
    });
  }

  const Program& program_;
  const int threads_;
  std::uint8_t* const arena_;
  std::atomic<std::int64_t> inexact_{0};
};

}  // namespace

void PackWeights(const reference::ModelView& model, const Program& program, int threads, std::uint8_t* arena,
                 PackStatistics& statistics) {
  std::memset(arena, 0, static_cast<std::size_t>(program.weight_bytes));
  Packer packer(program, threads, arena);
  for (std::int32_t layer = 0; layer < program.num_layers; ++layer) packer.PackLayer(model.layers[layer], layer);
  const PackedMatrix& head = program.matrix[layout::kPhaseHead];
  packer.PackVocabulary(head, model.lm_head, program.head_scale);
  if (program.embedding.offset != head.offset) {
    packer.PackVocabulary(program.embedding, model.embedding, program.embedding_scale);
  }
  packer.PackFinalNorm(model.final_norm);
  statistics.inexact += packer.inexact();
}

}  // namespace megakernel::host
