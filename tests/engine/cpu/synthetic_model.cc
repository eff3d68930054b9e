#include "tests/engine/cpu/synthetic_model.h"

#include <cmath>
#include <cstring>

#include "engine/base/check.h"
#include "engine/cpu/half.h"
#include "engine/model/k_quants.h"

namespace megakernel::test {
namespace {

void PutHalf(std::byte* target, float value) {
  const std::uint16_t half = cpu::FloatToHalf(value);
  std::memcpy(target, &half, 2);
}

void PutPlain(TensorType type, float value, std::byte* target) {
  const std::uint16_t bfloat = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
  switch (type) {
    case TensorType::kF16:
      return PutHalf(target, value);
    case TensorType::kBF16:
      std::memcpy(target, &bfloat, 2);
      return;
    default:
      MK_CHECK(type == TensorType::kF32);
      std::memcpy(target, &value, 4);
  }
}

// Standard deviation of uniform codes, times that of the scales of parts where a block has parts.
float CodeDeviation(TensorType type) {
  switch (type) {
    case TensorType::kQ8_0:
      return 74.0f;
    case TensorType::kQ5_0:
    case TensorType::kQ5_1:
      return 9.2f;
    case TensorType::kIQ4_NL:
      return 69.0f;
    case TensorType::kQ4_K:
      return 4.6f * 37.0f;
    case TensorType::kQ5_K:
      return 9.2f * 37.0f;
    case TensorType::kQ6_K:
      return 18.5f * 74.0f;
    default:
      return 4.6f;
  }
}

}  // namespace

OwnedTensor RandomTensor(const std::string& name, TensorType type, std::int64_t rows, std::int64_t cols, float scale,
                         std::mt19937& random) {
  OwnedTensor tensor;
  tensor.view = {name, type, rows, cols, nullptr};
  tensor.bytes.resize(static_cast<std::size_t>(tensor.view.Bytes()));
  tensor.view.data = tensor.bytes.data();
  std::normal_distribution<float> normal(0.0f, scale);
  std::uniform_real_distribution<float> uniform(0.5f, 1.5f);
  std::uniform_int_distribution<int> byte(0, 255);
  const std::int64_t count = rows * cols / BlockElements(type);
  for (std::int64_t i = 0; i < count; ++i) {
    std::byte* block = tensor.bytes.data() + i * BlockBytes(type);
    if (BlockElements(type) == 1) {
      PutPlain(type, normal(random), block);
      continue;
    }
    for (std::int32_t b = 0; b < BlockBytes(type); ++b) block[b] = static_cast<std::byte>(byte(random));
    const float step = scale * uniform(random) / CodeDeviation(type);
    PutHalf(block + (type == TensorType::kQ6_K ? kQ6ScaleAt : 0), step);
    if (type == TensorType::kQ4_1) PutHalf(block + 2, -7.5f * step * uniform(random));
    if (type == TensorType::kQ5_1) PutHalf(block + 2, -15.5f * step * uniform(random));
    // Scales and minima of the parts are 0 to 63 alike, so this centres the values.
    if (type == TensorType::kQ4_K) PutHalf(block + 2, 7.5f * step);
    if (type == TensorType::kQ5_K) PutHalf(block + 2, 15.5f * step);
  }
  return tensor;
}

SyntheticModel::SyntheticModel(const SyntheticOptions& o) : random_(o.seed) {
  config_.family = o.family;
  config_.name = "synthetic";
  config_.num_layers = o.num_layers;
  config_.hidden = o.hidden;
  config_.num_q_heads = o.num_q_heads;
  config_.num_kv_heads = o.num_kv_heads;
  config_.head_dim = o.head_dim;
  config_.ffn = o.ffn;
  config_.vocab = o.vocab;
  config_.max_context = o.max_context;
  config_.rms_eps = 1e-5f;
  config_.rope_theta = 10000.0;
  config_.qk_norm = o.qk_norm;
  config_.qkv_bias = o.qkv_bias;
  config_.tied_embedding = o.tied_embedding;
  config_.eos_tokens = {0};
  const std::int64_t q = std::int64_t{o.num_q_heads} * o.head_dim;
  const std::int64_t kv = std::int64_t{o.num_kv_heads} * o.head_dim;
  const float in = 1.0f / std::sqrt(static_cast<float>(o.hidden));
  weights_.embedding = Add("embedding", o.embedding, o.vocab, o.hidden, 1.0f);
  weights_.lm_head = o.tied_embedding ? weights_.embedding : Add("lm_head", o.matrices, o.vocab, o.hidden, 3.0f * in);
  weights_.final_norm = AddNorm("final_norm", o.hidden);
  for (std::int32_t i = 0; i < o.num_layers; ++i) {
    LayerWeights layer;
    layer.attention_norm = AddNorm("attention_norm", o.hidden);
    layer.ffn_norm = AddNorm("ffn_norm", o.hidden);
    layer.wq = Add("wq", o.matrices, q, o.hidden, 2.0f * in);
    layer.wk = Add("wk", o.matrices, kv, o.hidden, 2.0f * in);
    layer.wv = Add("wv", o.matrices, kv, o.hidden, in);
    layer.wo = Add("wo", o.matrices, o.hidden, q, 1.0f / std::sqrt(static_cast<float>(q)));
    layer.w_gate = Add("w_gate", o.matrices, o.ffn, o.hidden, in);
    layer.w_up = Add("w_up", o.matrices, o.ffn, o.hidden, in);
    layer.w_down = Add("w_down", o.matrices, o.hidden, o.ffn, 1.0f / std::sqrt(static_cast<float>(o.ffn)));
    if (o.qk_norm) {
      layer.q_norm = AddNorm("q_norm", o.head_dim);
      layer.k_norm = AddNorm("k_norm", o.head_dim);
    }
    if (o.qkv_bias) {
      layer.bq = Add("bq", TensorType::kF32, 1, q, 0.5f);
      layer.bk = Add("bk", TensorType::kF32, 1, kv, 0.5f);
      layer.bv = Add("bv", TensorType::kF32, 1, kv, 0.5f);
    }
    weights_.layers.push_back(layer);
  }
}

const Tokenizer& SyntheticModel::tokenizer() const {
  MK_CHECK(false);  // a synthetic model speaks token ids only
  __builtin_unreachable();
}

TensorView SyntheticModel::Add(const std::string& name, TensorType type, std::int64_t rows, std::int64_t cols,
                               float scale) {
  tensors_.push_back(RandomTensor(name, type, rows, cols, scale, random_));
  weight_bytes_ += tensors_.back().view.Bytes();
  return tensors_.back().view;
}

TensorView SyntheticModel::AddNorm(const std::string& name, std::int64_t cols) {
  tensors_.push_back(RandomTensor(name, TensorType::kF32, 1, cols, 0.2f, random_));
  auto* values = reinterpret_cast<float*>(tensors_.back().bytes.data());
  for (std::int64_t i = 0; i < cols; ++i) values[i] += 1.0f;
  return tensors_.back().view;
}

}  // namespace megakernel::test
