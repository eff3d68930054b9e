#include "engine/model/gguf_weights.h"

#include <cstring>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/family.h"
#include "engine/model/gguf_config.h"
#include "engine/model/tensor_type.h"

namespace megakernel {
namespace {

// Takes tensors out of the file one by one and remembers the first error.
class Binder {
 public:
  Binder(const GgufFile& file, const LoadProgress& progress) : file_(file), progress_(progress) {
    for (const TensorView& tensor : file.tensors()) total_ += tensor.name == kRopeDivisorsName ? 0 : tensor.Bytes();
  }

  TensorView Take(const std::string& name, std::int64_t rows, std::int64_t cols) {
    if (!status_.ok()) return {};
    const TensorView* found = file_.Find(name);
    if (found == nullptr) {
      Fail(name, "the tensor is missing");
      return {};
    }
    taken_.insert(found->name);
    if (found->rows != rows || found->cols != cols) {
      Fail(name,
           absl::StrCat("has ", found->rows, " rows of ", found->cols, "; the metadata asks for ", rows, " of ", cols));
    } else if (const std::int64_t row = FirstRowNotFinite(*found); row >= 0) {
      Fail(name, absl::StrCat("row ", row, " holds a number that is NaN or infinite"));
    }
    done_ += found->Bytes();
    if (progress_) progress_("check", done_, total_);
    return *found;
  }

  // After everything was taken.
  void RefuseTheRest() {
    for (const TensorView& tensor : file_.tensors()) {
      if (status_.ok() && taken_.count(tensor.name) == 0 && tensor.name != kRopeDivisorsName) {
        Fail(tensor.name, "the architecture has no place for this tensor");
      }
    }
  }

  const absl::Status& status() const { return status_; }

 private:
  void Fail(std::string_view tensor, std::string_view problem) {
    if (status_.ok()) status_ = file_.Error(tensor, problem);
  }

  const GgufFile& file_;
  const LoadProgress& progress_;
  std::int64_t done_ = 0;
  std::int64_t total_ = 0;  // of all tensors that can be taken
  std::set<std::string_view> taken_;
  absl::Status status_;
};

LayerWeights BindLayer(const ModelConfig& config, std::int32_t index, Binder& binder) {
  const auto take = [&](const char* name, std::int64_t rows, std::int64_t cols) {
    return binder.Take(absl::StrCat("blk.", index, ".", name), rows, cols);
  };
  const std::int64_t q_rows = std::int64_t{config.num_q_heads} * config.head_dim;
  const std::int64_t kv_rows = std::int64_t{config.num_kv_heads} * config.head_dim;
  LayerWeights layer;
  layer.attention_norm = take("attn_norm.weight", 1, config.hidden);
  layer.wq = take("attn_q.weight", q_rows, config.hidden);
  layer.wk = take("attn_k.weight", kv_rows, config.hidden);
  layer.wv = take("attn_v.weight", kv_rows, config.hidden);
  if (config.qkv_bias) {
    layer.bq = take("attn_q.bias", 1, q_rows);
    layer.bk = take("attn_k.bias", 1, kv_rows);
    layer.bv = take("attn_v.bias", 1, kv_rows);
  }
  if (config.qk_norm) {
    layer.q_norm = take("attn_q_norm.weight", 1, config.head_dim);
    layer.k_norm = take("attn_k_norm.weight", 1, config.head_dim);
  }
  layer.wo = take("attn_output.weight", config.hidden, q_rows);
  layer.ffn_norm = take("ffn_norm.weight", 1, config.hidden);
  layer.w_gate = take("ffn_gate.weight", config.ffn, config.hidden);
  layer.w_up = take("ffn_up.weight", config.ffn, config.hidden);
  layer.w_down = take("ffn_down.weight", config.hidden, config.ffn);
  return layer;
}

void Rearrange(TensorView& tensor, std::int32_t head_dim, OwnedTensors& owned) {
  owned.push_back(RowsForRopeOnHalves(tensor, head_dim));
  tensor.data = owned.back().data();
}

}  // namespace

std::vector<std::byte> RowsForRopeOnHalves(const TensorView& tensor, std::int32_t head_dim) {
  const auto row_bytes = static_cast<std::size_t>(tensor.RowBytes());
  std::vector<std::byte> rows(static_cast<std::size_t>(tensor.Bytes()));
  for (std::int64_t row = 0; row < tensor.rows; ++row) {
    const std::int64_t in_head = row % head_dim;
    const std::int64_t target = row - in_head + in_head % 2 * (head_dim / 2) + in_head / 2;
    std::memcpy(rows.data() + static_cast<std::size_t>(target) * row_bytes,
                tensor.data + static_cast<std::size_t>(row) * row_bytes, row_bytes);
  }
  return rows;
}

absl::StatusOr<ModelWeights> BindGgufWeights(const GgufFile& file, const ModelConfig& config, OwnedTensors& owned,
                                             const LoadProgress& progress) {
  Binder binder(file, progress);
  ModelWeights weights;
  weights.embedding = binder.Take("token_embd.weight", config.vocab, config.hidden);
  weights.final_norm = binder.Take("output_norm.weight", 1, config.hidden);
  weights.lm_head =
      config.tied_embedding ? weights.embedding : binder.Take("output.weight", config.vocab, config.hidden);
  for (std::int32_t i = 0; i < config.num_layers && binder.status().ok(); ++i) {
    weights.layers.push_back(BindLayer(config, i, binder));
  }
  binder.RefuseTheRest();
  if (!binder.status().ok()) return binder.status();
  if (FactsOf(config.family).gguf_permuted) {
    for (LayerWeights& layer : weights.layers) {
      Rearrange(layer.wq, config.head_dim, owned);
      Rearrange(layer.wk, config.head_dim, owned);
    }
  }
  return weights;
}

}  // namespace megakernel
