#include "engine/cuda/model_view.h"

#include <atomic>
#include <thread>
#include <vector>

namespace megakernel {
namespace {

reference::Shape ShapeOf(const ModelConfig& config) {
  reference::Shape shape;
  shape.num_layers = config.num_layers;
  shape.hidden = config.hidden;
  shape.num_q_heads = config.num_q_heads;
  shape.num_kv_heads = config.num_kv_heads;
  shape.head_dim = config.head_dim;
  shape.ffn = config.ffn;
  shape.vocab = config.vocab;
  shape.rms_eps = config.rms_eps;
  shape.rope.theta = config.rope_theta;
  shape.rope.factor = config.rope_factor;
  shape.rope.low_freq_factor = config.rope_low_freq_factor;
  shape.rope.high_freq_factor = config.rope_high_freq_factor;
  shape.rope.original_context = config.rope_original_context;
  switch (config.rope_scaling) {
    case RopeScaling::kNone:
      shape.rope.kind = reference::RopeKind::kPlain;
      break;
    case RopeScaling::kLinear:
      shape.rope.kind = reference::RopeKind::kLinear;
      break;
    case RopeScaling::kLlama3:
      shape.rope.kind = reference::RopeKind::kLlama3;
      break;
  }
  return shape;
}

}  // namespace

reference::Tensor ModelViewOf::Convert(const TensorView& tensor) {
  if (!tensor) return {};
  reference::Tensor result;
  result.rows = tensor.rows;
  result.cols = tensor.cols;
  result.data = tensor.data;
  switch (tensor.type) {
    case TensorType::kF32:
      result.type = reference::ElementType::kF32;
      return result;
    case TensorType::kF16:
      result.type = reference::ElementType::kF16;
      return result;
    case TensorType::kBF16:
      result.type = reference::ElementType::kBF16;
      return result;
    default:
      break;
  }
  std::vector<float>& copy = copies_.emplace_back(static_cast<std::size_t>(tensor.rows * tensor.cols));
  std::atomic<std::int64_t> next{0};
  const auto work = [&] {
    for (std::int64_t row; (row = next.fetch_add(1)) < tensor.rows;) {
      DequantizeRow(tensor, row, copy.data() + row * tensor.cols);
    }
  };
  std::vector<std::thread> helpers;
  for (int i = 1; i < threads_; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  result.type = reference::ElementType::kF32;
  result.data = copy.data();
  return result;
}

ModelViewOf::ModelViewOf(const Model& model, int threads) : threads_(threads) {
  const ModelWeights& weights = model.weights();
  view_.shape = ShapeOf(model.config());
  view_.embedding = Convert(weights.embedding);
  view_.final_norm = Convert(weights.final_norm);
  view_.lm_head = weights.lm_head.data == weights.embedding.data ? view_.embedding : Convert(weights.lm_head);
  for (const LayerWeights& from : weights.layers) {
    reference::Layer& to = view_.layers.emplace_back();
    to.attention_norm = Convert(from.attention_norm);
    to.wq = Convert(from.wq);
    to.wk = Convert(from.wk);
    to.wv = Convert(from.wv);
    to.bq = Convert(from.bq);
    to.bk = Convert(from.bk);
    to.bv = Convert(from.bv);
    to.q_norm = Convert(from.q_norm);
    to.k_norm = Convert(from.k_norm);
    to.wo = Convert(from.wo);
    to.ffn_norm = Convert(from.ffn_norm);
    to.w_gate = Convert(from.w_gate);
    to.w_up = Convert(from.w_up);
    to.w_down = Convert(from.w_down);
  }
}

}  // namespace megakernel
