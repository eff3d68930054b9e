#include <cmath>

#include "absl/strings/str_cat.h"
#include "tests/support/checkpoint.h"

namespace megakernel::test {
namespace {

constexpr Distribution kNorm = {.mean = 1.0, .std = 0.1};
constexpr Distribution kHeadNorm = {.mean = 1.25, .std = 0.125};
constexpr Distribution kBias = {.mean = 0.0, .std = 0.5};

PlannedTensor Matrix(std::string name, std::int64_t rows, std::int64_t cols, double gain) {
  return {std::move(name), {rows, cols}, {.mean = 0.0, .std = gain / std::sqrt(static_cast<double>(cols))}};
}

void PlanLayer(const ModelConfig& c, const std::string& prefix, std::vector<PlannedTensor>& plan) {
  const std::int64_t q_width = std::int64_t{c.num_q_heads} * c.head_dim;
  const std::int64_t kv_width = std::int64_t{c.num_kv_heads} * c.head_dim;
  const double qk_gain = c.qk_norm ? 1.0 : 1.25;
  const std::string attention = prefix + "self_attn.";
  plan.push_back({prefix + "input_layernorm.weight", {c.hidden}, kNorm});
  plan.push_back(Matrix(attention + "q_proj.weight", q_width, c.hidden, qk_gain));
  plan.push_back(Matrix(attention + "k_proj.weight", kv_width, c.hidden, qk_gain));
  plan.push_back(Matrix(attention + "v_proj.weight", kv_width, c.hidden, 1.0));
  if (c.qkv_bias) {
    plan.push_back({attention + "q_proj.bias", {q_width}, kBias});
    plan.push_back({attention + "k_proj.bias", {kv_width}, kBias});
    plan.push_back({attention + "v_proj.bias", {kv_width}, kBias});
  }
  if (c.qk_norm) {
    plan.push_back({attention + "q_norm.weight", {c.head_dim}, kHeadNorm});
    plan.push_back({attention + "k_norm.weight", {c.head_dim}, kHeadNorm});
  }
  plan.push_back(Matrix(attention + "o_proj.weight", c.hidden, q_width, 0.5));
  plan.push_back({prefix + "post_attention_layernorm.weight", {c.hidden}, kNorm});
  plan.push_back(Matrix(prefix + "mlp.gate_proj.weight", c.ffn, c.hidden, 1.0));
  plan.push_back(Matrix(prefix + "mlp.up_proj.weight", c.ffn, c.hidden, 1.0));
  plan.push_back(Matrix(prefix + "mlp.down_proj.weight", c.hidden, c.ffn, 0.5));
}

}  // namespace

std::int64_t PlannedTensor::Elements() const {
  std::int64_t elements = 1;
  for (const std::int64_t dimension : shape) elements *= dimension;
  return elements;
}

std::vector<PlannedTensor> PlanTensors(const ModelConfig& config) {
  constexpr double kLogitGain = 2.5;
  std::vector<PlannedTensor> plan;
  plan.push_back(Matrix("model.embed_tokens.weight", config.vocab, config.hidden, kLogitGain));
  for (std::int32_t l = 0; l < config.num_layers; ++l) PlanLayer(config, absl::StrCat("model.layers.", l, "."), plan);
  plan.push_back({"model.norm.weight", {config.hidden}, kNorm});
  if (!config.tied_embedding) plan.push_back(Matrix("lm_head.weight", config.vocab, config.hidden, kLogitGain));
  return plan;
}

}  // namespace megakernel::test
