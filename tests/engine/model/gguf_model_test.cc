// GGUF files that load: metadata, tensors, the order of Q and K rows, the digest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/model/gguf_weights.h"
#include "engine/model/model.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"
#include "tests/engine/model/gguf_writer.h"
#include "tests/engine/model/temp_file.h"

namespace megakernel {
namespace {

std::unique_ptr<Model> Load(const std::string& bytes) {
  const TempFile file(bytes);
  auto model = LoadModel(file.path());
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *std::move(model) : nullptr;
}

std::vector<float> Row(const TensorView& tensor, std::int64_t row) {
  std::vector<float> values(static_cast<std::size_t>(tensor.cols));
  DequantizeRow(tensor, row, values.data());
  return values;
}

TEST(GgufModelTest, TinyFile) {
  const auto model = Load(TinyLlama().Bytes());
  ASSERT_NE(model, nullptr);
  const ModelConfig& config = model->config();
  EXPECT_EQ(config.family, Family::kLlama);
  EXPECT_EQ(config.name, "tiny");
  EXPECT_EQ(config.num_layers, 1);
  EXPECT_EQ(config.hidden, 8);
  EXPECT_EQ(config.num_q_heads, 2);
  EXPECT_EQ(config.num_kv_heads, 1);
  EXPECT_EQ(config.head_dim, 4);
  EXPECT_EQ(config.ffn, 12);
  EXPECT_EQ(config.vocab, 5);
  EXPECT_EQ(config.max_context, 16);
  EXPECT_TRUE(config.tied_embedding);
  EXPECT_FALSE(config.add_bos);
  EXPECT_EQ(config.bos_token, 3);
  EXPECT_THAT(config.eos_tokens, testing::ElementsAre(4));
  EXPECT_EQ(model->weights().lm_head.data, model->weights().embedding.data);
  EXPECT_EQ(model->weight_bytes(), 4 * (40 + 8 + 8 + 64 + 32 + 32 + 64 + 8 + 96 + 96 + 96));
  EXPECT_FLOAT_EQ(Row(model->weights().layers[0].w_down, 1)[2], 10.0f + 14 / 1000.0f);
  EXPECT_EQ(*model->chat_template()->Render({{"user", "ab"}}, true), "ab</s>");
  EXPECT_THAT(model->tokenizer().Encode("ab</s>", true), testing::ElementsAre(2, 4));
}

TEST(GgufModelTest, QAndKRowsAreInRopeOnHalvesOrder) {
  const auto model = Load(TinyLlama().Bytes());
  ASSERT_NE(model, nullptr);
  const LayerWeights& layer = model->weights().layers[0];
  // Heads of 4: file rows 0 1 2 3 hold elements (0, half 0), (0, half 1), (1, half 0), (1, half 1).
  const std::int64_t from[] = {0, 2, 1, 3, 4, 6, 5, 7};
  for (std::int64_t row = 0; row < 8; ++row) {
    EXPECT_FLOAT_EQ(Row(layer.wq, row)[0], 3.0f + static_cast<float>(from[row] * 8) / 1000.0f) << row;
  }
  for (std::int64_t row = 0; row < 4; ++row) {
    EXPECT_FLOAT_EQ(Row(layer.wk, row)[0], 4.0f + static_cast<float>(from[row] * 8) / 1000.0f) << row;
    EXPECT_FLOAT_EQ(Row(layer.wv, row)[0], 5.0f + static_cast<float>(row * 8) / 1000.0f) << row;
  }
}

TEST(GgufModelTest, QwenKeepsItsRowsAndHasItsExtras) {
  GgufWriter file = TinyLlama();
  for (GgufKey& key : file.keys) {
    if (key.name.starts_with("llama.")) key.name = "qwen3." + key.name.substr(6);
  }
  file.Text("general.architecture", "qwen3");
  file.tensors.push_back({"blk.0.attn_q_norm.weight", {4}, 0, std::string(16, '\0')});
  file.tensors.push_back({"blk.0.attn_k_norm.weight", {4}, 0, std::string(16, '\0')});
  file.tensors.push_back({"output.weight", {8, 5}, 0, std::string(160, '\0')});
  file.Place();
  const auto model = Load(file.Bytes());
  ASSERT_NE(model, nullptr);
  EXPECT_TRUE(model->config().qk_norm);
  EXPECT_FALSE(model->config().tied_embedding);
  const LayerWeights& layer = model->weights().layers[0];
  EXPECT_TRUE(layer.q_norm);
  for (std::int64_t row = 0; row < 8; ++row) {
    EXPECT_FLOAT_EQ(Row(layer.wq, row)[0], 3.0f + static_cast<float>(row * 8) / 1000.0f) << row;
  }
}

TEST(GgufModelTest, Version2AndOtherAlignments) {
  GgufWriter file = TinyLlama();
  file.version = 2;
  file.alignment = 128;
  file.Uint32("general.alignment", 128);
  file.Place();
  const auto model = Load(file.Bytes());
  ASSERT_NE(model, nullptr);
  EXPECT_FLOAT_EQ(Row(model->weights().final_norm, 0)[1], 1.001f);
}

TEST(GgufModelTest, IdentityIsOfTheBytes) {
  GgufWriter file = TinyLlama();
  const std::string identity = Load(file.Bytes())->identity();
  EXPECT_EQ(identity.size(), 32u);
  EXPECT_EQ(Load(file.Bytes())->identity(), identity);
  file.Tensor("blk.0.ffn_up.weight").data[5] ^= 1;
  EXPECT_NE(Load(file.Bytes())->identity(), identity);
  file.Tensor("blk.0.ffn_up.weight").data[5] ^= 1;
  file.Texts("tokenizer.ggml.tokens", {"a", "b", "ab", "<S>", "</s>"});
  EXPECT_NE(Load(file.Bytes())->identity(), identity);
}

TEST(GgufModelTest, TheRealModel) {
  const char* path = std::getenv("MEGAKERNEL_TEST_MODEL");
  ASSERT_NE(path, nullptr) << "MEGAKERNEL_TEST_MODEL names the test model's file";
  auto model = LoadModel(path);
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelConfig& config = (*model)->config();
  EXPECT_EQ(config.num_layers, 30);
  EXPECT_EQ(config.hidden, 576);
  EXPECT_EQ(config.num_q_heads, 9);
  EXPECT_EQ(config.num_kv_heads, 3);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.ffn, 1536);
  EXPECT_EQ(config.vocab, 49152);
  EXPECT_EQ(config.max_context, 8192);
  EXPECT_EQ(config.rope_theta, 100000.0);
  EXPECT_EQ((*model)->weights().embedding.type, TensorType::kQ8_0);
  EXPECT_EQ((*model)->weights().layers[29].w_gate.type, TensorType::kQ4_1);
  EXPECT_EQ((*model)->weight_bytes(), 96576768);
}

}  // namespace
}  // namespace megakernel
