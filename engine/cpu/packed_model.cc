#include "engine/cpu/packed_model.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/kernel_table.h"

namespace megakernel::cpu {
namespace {

struct Job {
  const TensorView* tensor;
  PackedMatrix* matrix;
};

// Collects the matrices of a model: checks shapes, plans where each goes.
class Planner {
 public:
  explicit Planner(bool as_float) : as_float_(as_float) {}

  absl::Status Matrix(const TensorView& tensor, std::int64_t rows, std::int64_t cols, PackedMatrix& matrix) {
    MK_RETURN_IF_ERROR(CheckShape(tensor, rows, cols));
    matrix = ShapeOf(tensor, KindFor(tensor, as_float_));
    jobs_.push_back({&tensor, &matrix});
    bytes_ += RoundUp(matrix.Bytes(), 64);
    return absl::OkStatus();
  }

  absl::Status Vector(const TensorView& tensor, std::int64_t cols, PackedVector& vector) {
    MK_RETURN_IF_ERROR(CheckShape(tensor, 1, cols));
    vector.assign(static_cast<std::size_t>(RoundUp(cols, kTileCols)), 0.0f);
    DequantizeRow(tensor, 0, vector.data());
    return absl::OkStatus();
  }

  const std::vector<Job>& jobs() const { return jobs_; }
  std::int64_t bytes() const { return bytes_; }

 private:
  static absl::Status CheckShape(const TensorView& tensor, std::int64_t rows, std::int64_t cols) {
    if (tensor && tensor.rows == rows && tensor.cols == cols) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("tensor \"", tensor.name, "\" is ", tensor.rows, " x ", tensor.cols,
                                                   ", the configuration needs ", rows, " x ", cols));
  }

  const bool as_float_;
  std::vector<Job> jobs_;
  std::int64_t bytes_ = 0;
};

absl::Status CheckConfig(const ModelConfig& config) {
  if (config.head_dim % 32 != 0 || config.head_dim < 32 || config.head_dim > kMaxHeadDim) {
    return absl::UnimplementedError(
        absl::StrCat("head_dim is ", config.head_dim, "; the CPU kernels need a multiple of 32 up to ", kMaxHeadDim));
  }
  if (config.num_kv_heads < 1 || config.num_q_heads % config.num_kv_heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_q_heads ", config.num_q_heads, " is not a multiple of num_kv_heads ", config.num_kv_heads));
  }
  return absl::OkStatus();
}

absl::Status PlanLayer(const ModelConfig& config, const LayerWeights& from, Planner& planner, PackedLayer& to) {
  const std::int64_t q = std::int64_t{config.num_q_heads} * config.head_dim;
  const std::int64_t kv = std::int64_t{config.num_kv_heads} * config.head_dim;
  MK_RETURN_IF_ERROR(planner.Vector(from.attention_norm, config.hidden, to.attention_norm));
  MK_RETURN_IF_ERROR(planner.Vector(from.ffn_norm, config.hidden, to.ffn_norm));
  MK_RETURN_IF_ERROR(planner.Matrix(from.wq, q, config.hidden, to.wq));
  MK_RETURN_IF_ERROR(planner.Matrix(from.wk, kv, config.hidden, to.wk));
  MK_RETURN_IF_ERROR(planner.Matrix(from.wv, kv, config.hidden, to.wv));
  MK_RETURN_IF_ERROR(planner.Matrix(from.wo, config.hidden, q, to.wo));
  MK_RETURN_IF_ERROR(planner.Matrix(from.w_gate, config.ffn, config.hidden, to.w_gate));
  MK_RETURN_IF_ERROR(planner.Matrix(from.w_up, config.ffn, config.hidden, to.w_up));
  MK_RETURN_IF_ERROR(planner.Matrix(from.w_down, config.hidden, config.ffn, to.w_down));
  if (config.qk_norm) {
    MK_RETURN_IF_ERROR(planner.Vector(from.q_norm, config.head_dim, to.q_norm));
    MK_RETURN_IF_ERROR(planner.Vector(from.k_norm, config.head_dim, to.k_norm));
  }
  if (config.qkv_bias) {
    MK_RETURN_IF_ERROR(planner.Vector(from.bq, q, to.bq));
    MK_RETURN_IF_ERROR(planner.Vector(from.bk, kv, to.bk));
    MK_RETURN_IF_ERROR(planner.Vector(from.bv, kv, to.bv));
  }
  return absl::OkStatus();
}

// Rows [first, first + count) of a tensor, as far as it has them.
TensorView Rows(const TensorView& tensor, std::int64_t first, std::int64_t count) {
  TensorView rows = tensor;
  rows.rows = std::min(count, tensor.rows - first);
  rows.data = tensor.data + first * tensor.RowBytes();
  return rows;
}

}  // namespace

absl::StatusOr<PackedModel> PackedModel::Pack(const Model& model, bool as_float, ThreadTeam& team,
                                              const LoadProgress& progress) {
  const ModelConfig& config = model.config();
  const ModelWeights& weights = model.weights();
  MK_RETURN_IF_ERROR(CheckConfig(config));
  PackedModel packed;
  packed.layers_.resize(weights.layers.size());
  Planner planner(as_float);
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    MK_RETURN_IF_ERROR(PlanLayer(config, weights.layers[i], planner, packed.layers_[i]));
  }
  MK_RETURN_IF_ERROR(planner.Vector(weights.final_norm, config.hidden, packed.final_norm_));
  MK_RETURN_IF_ERROR(planner.Matrix(weights.lm_head, config.vocab, config.hidden, packed.lm_head_));
  MK_ASSIGN_OR_RETURN(packed.memory_, Memory::Allocate(planner.bytes(), "the packed weights"));

  std::byte* next = packed.memory_.data();
  for (const Job& job : planner.jobs()) {
    job.matrix->data = next;
    next += RoundUp(job.matrix->Bytes(), 64);
    packed.weight_bytes_ += job.matrix->Bytes();
  }
  std::atomic<std::int64_t> done{0};
  const auto add = [&](const Worker& worker, std::int64_t bytes) {
    const std::int64_t all = done.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    // The whole is told at the end, when it is true of every member.
    if (progress && worker.index() == 0 && all < packed.weight_bytes_) progress("pack", all, packed.weight_bytes_);
  };
  team.Run([&](Worker& worker) {
    for (const Job& job : planner.jobs()) {
      std::byte* target = packed.memory_.data() + (job.matrix->data - packed.memory_.data());
      for (int first, count; worker.Take(job.matrix->num_strips, 16, first, count);) {
        PackStrips(*job.tensor, *job.matrix, first, first + count, target);
        model.Release(Rows(*job.tensor, first * kTileRows, count * kTileRows));
        add(worker, count * job.matrix->StripBytes());
      }
      worker.Barrier();
    }
  });
  if (progress) progress("pack", packed.weight_bytes_, packed.weight_bytes_);
  return packed;
}

}  // namespace megakernel::cpu
