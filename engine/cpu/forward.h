// One pass of the model over the rows of a step.
//
// All members of the team call RunLayers, then Logits, with equal arguments. A row's result depends on its sequence
// only: not on the other rows, the threads, the size of the pages or how the prompt was cut.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/cpu/attention_plan.h"
#include "engine/cpu/batch.h"
#include "engine/cpu/kernel_table.h"
#include "engine/cpu/kv_store.h"
#include "engine/cpu/memory.h"
#include "engine/cpu/packed_model.h"
#include "engine/cpu/rope_table.h"
#include "engine/cpu/thread_team.h"

namespace megakernel::cpu {

// Rows of logits that are held at a time.
inline constexpr std::int32_t kLogitRows = 64;

class Forward {
 public:
  struct Shape {
    std::int32_t max_rows = 0;
    std::int32_t max_context = 0;
    std::int32_t num_threads = 1;
  };

  // Everything passed in must outlive it. ResourceExhausted when buffers cannot be had.
  static absl::StatusOr<std::unique_ptr<Forward>> Create(const Model& model, const PackedModel& packed,
                                                         const KernelTable& kernels, const KvStore& kv,
                                                         const Shape& shape);
  ~Forward();

  // Before a step, by one thread: what all members will read.
  void Begin(const Batch& batch);

  // Embedding and all layers: writes keys and values of every row.
  void RunLayers(Worker& worker);

  // Logits of rows (at most kLogitRows) after RunLayers; ends with a barrier.
  void Logits(Worker& worker, std::span<const std::int32_t> rows);

  // Of the i-th row of the last Logits; vocab numbers that the caller may overwrite.
  float* LogitsOf(std::int32_t i) const { return logits_.data() + i * logits_stride_; }

 private:
  struct Private;  // what each member has for itself

  Forward(const Model& model, const PackedModel& packed, const KernelTable& kernels, const KvStore& kv,
          const Shape& shape);
  absl::Status Allocate();
  void RunLayer(Worker& worker, std::int32_t layer);
  void Embed(Worker& worker);
  Activations Normalize(Worker& worker, std::span<const std::int32_t> rows, const PackedVector& weight);
  Activations Quantize(Worker& worker, const Buffer<float>& floats, std::int32_t cols);
  Activations InputBuffer(Worker& worker, std::int32_t num_rows, std::int32_t cols);
  void ProjectQkv(Worker& worker, const PackedLayer& layer, const Activations& input);
  void PrepareHeads(float* heads, std::int32_t count, const PackedVector& bias, std::int32_t first_head,
                    const PackedVector& norm, std::int32_t position, float scale);
  void AppendRow(std::int32_t layer, std::int32_t row, std::int32_t kv_head);
  void Attend(Worker& worker, std::int32_t layer);
  void AttendUnit(Private& own, std::int32_t layer, const AttentionUnit& unit);
  void FoldRow(std::int32_t row, std::int32_t q_head);
  void GateUp(Worker& worker, const PackedLayer& layer, const Activations& input);
  // Without a barrier at the end.
  void Multiply(Worker& worker, const PackedMatrix& matrix, const Activations& input, std::int32_t num_rows, float* out,
                std::int64_t stride, bool add);
  std::int32_t Chunk(std::int32_t total) const;
  void Fetch(const Worker& worker, const PackedMatrix& matrix) const;

  const ModelConfig& config_;
  const ModelWeights& weights_;
  const PackedModel& packed_;
  const KernelTable& kernels_;
  const KvStore& kv_;
  const Shape shape_;
  const RopeTable rope_;
  // Widths of row buffers, padded to blocks.
  const std::int32_t hidden_;
  const std::int32_t q_dim_;
  const std::int32_t kv_dim_;
  const std::int32_t ffn_;
  const std::int64_t logits_stride_;

  const Batch* batch_ = nullptr;
  AttentionPlan attention_;
  std::vector<std::int32_t> all_rows_;  // 0, 1, 2, ...
  std::vector<std::unique_ptr<Private>> own_;

  Buffer<float> x_;          // [rows][hidden]       residual
  Buffer<float> qkv_;        // [rows][q + 2 kv]
  Buffer<float> attended_;   // [rows][q]
  Buffer<float> activated_;  // [rows][ffn]
  Buffer<float> logits_;     // [kLogitRows][vocab]
  Buffer<float> partials_;   // [kSplitRows][q heads][blocks][StateFloats]
  // Inputs of a matrix when rows are too many for every member to make its own.
  Buffer<float> shared_floats_;
  Buffer<std::int16_t> shared_values_;
  Buffer<float> shared_scales_;
  Buffer<float> shared_sums_;
};

}  // namespace megakernel::cpu
