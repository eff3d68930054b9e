// Small models with random weights in any element type, for tests of the CPU executor.
#pragma once

#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "engine/model/model.h"

namespace megakernel::test {

// A tensor that owns its bytes.
struct OwnedTensor {
  TensorView view;
  std::vector<std::byte> bytes;
};

// Random elements of about `scale`, random block scales and all quant values in quantised types.
OwnedTensor RandomTensor(const std::string& name, TensorType type, std::int64_t rows, std::int64_t cols, float scale,
                         std::mt19937& random);

struct SyntheticOptions {
  Family family = Family::kLlama;
  std::int32_t num_layers = 2;
  std::int32_t hidden = 96;
  std::int32_t num_q_heads = 6;
  std::int32_t num_kv_heads = 2;
  std::int32_t head_dim = 32;
  std::int32_t ffn = 160;
  std::int32_t vocab = 250;
  std::int32_t max_context = 512;
  bool qk_norm = false;
  bool qkv_bias = false;
  bool tied_embedding = true;
  TensorType matrices = TensorType::kQ4_1;
  TensorType embedding = TensorType::kQ8_0;
  std::uint32_t seed = 1;
};

class SyntheticModel final : public Model {
 public:
  explicit SyntheticModel(const SyntheticOptions& options);

  const ModelConfig& config() const override { return config_; }
  const ModelWeights& weights() const override { return weights_; }
  const Tokenizer& tokenizer() const override;
  const ChatTemplate* chat_template() const override { return nullptr; }
  std::int64_t weight_bytes() const override { return weight_bytes_; }
  const std::string& identity() const override { return identity_; }

  // For tests that damage or vary a model.
  ModelConfig& mutable_config() { return config_; }
  ModelWeights& mutable_weights() { return weights_; }

 private:
  TensorView Add(const std::string& name, TensorType type, std::int64_t rows, std::int64_t cols, float scale);
  TensorView AddNorm(const std::string& name, std::int64_t cols);

  ModelConfig config_;
  ModelWeights weights_;
  std::deque<OwnedTensor> tensors_;
  std::mt19937 random_;
  std::int64_t weight_bytes_ = 0;
  std::string identity_ = "synthetic";
};

}  // namespace megakernel::test
