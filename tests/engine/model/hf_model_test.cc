#include "engine/model/hf_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "engine/model/hf_config.h"
#include "engine/model/hf_shards.h"
#include "tests/engine/model/refusal.h"
#include "tests/engine/model/safetensors_writer.h"
#include "tests/support/temp_checkpoint.h"

namespace megakernel::test {
namespace {

TEST(HfConfigTest, ReadsEveryPreset) {
  int presets = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(MEGAKERNEL_SOURCE_DIR) + "/configs/models")) {
    if (entry.path().extension() != ".json") continue;
    const auto config = ParseHfConfig(PresetText(entry.path().stem()), entry.path());
    EXPECT_TRUE(config.ok()) << config.status();
    ++presets;
  }
  EXPECT_GE(presets, 10);
}

TEST(HfConfigTest, ReadsFamilyShapesAndRope) {
  const auto qwen = ParseHfConfig(PresetText("qwen3-0.6b"), "q");
  ASSERT_TRUE(qwen.ok()) << qwen.status();
  EXPECT_TRUE(qwen->family == Family::kQwen3 && qwen->qk_norm && !qwen->qkv_bias && qwen->tied_embedding);
  EXPECT_EQ(qwen->num_q_heads * qwen->head_dim, 2048);
  EXPECT_EQ(qwen->hidden, 1024);
  EXPECT_EQ(qwen->rope_theta, 1e6);
  EXPECT_THAT(qwen->eos_tokens, testing::ElementsAre(151645));
  const auto llama = ParseHfConfig(PresetText("llama-3.2-1b"), "l");
  ASSERT_TRUE(llama.ok()) << llama.status();
  EXPECT_EQ(llama->rope_scaling, RopeScaling::kLlama3);
  EXPECT_EQ(llama->rope_factor, 32.0);
  EXPECT_EQ(llama->rope_original_context, 8192);
  EXPECT_EQ(llama->eos_tokens.size(), 3u);
}

TEST(HfConfigTest, ReadsRopeParametersOfNewerFiles) {
  auto json = nlohmann::json::parse(PresetText("llama-tiny"));
  json["rope_parameters"] = json["rope_scaling"];
  json["rope_parameters"]["rope_theta"] = 12345.0;
  json.erase("rope_scaling");
  json.erase("rope_theta");
  const auto config = ParseHfConfig(json.dump(), "c");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope_theta, 12345.0);
  EXPECT_EQ(config->rope_scaling, RopeScaling::kLlama3);
}

struct BadValue {
  const char* pointer;  // JSON pointer
  const char* value;    // JSON, or "" to remove
  const char* message;
};

class BadConfigTest : public testing::TestWithParam<BadValue> {};

TEST_P(BadConfigTest, IsRefusedByName) {
  auto json = nlohmann::json::parse(PresetText("llama-tiny"));
  const nlohmann::json::json_pointer at(GetParam().pointer);
  if (*GetParam().value == '\0') {
    json.erase(at.back());
  } else {
    json[at] = nlohmann::json::parse(GetParam().value);
  }
  const std::string text = json.dump();
  const std::string message =
      ExpectRefusal([&] { return ParseHfConfig(text, "dir/config.json"); }, "dir/config.json", GetParam().message);
  EXPECT_THAT(message, testing::StartsWith("dir/config.json: "));
}

INSTANTIATE_TEST_SUITE_P(
    Options, BadConfigTest,
    testing::Values(
        BadValue{"/model_type", "\"qwen3_moe\"", "qwen3_moe"}, BadValue{"/model_type", "", "model_type is missing"},
        BadValue{"/architectures", "[\"LlamaForSequenceClassification\"]", "architectures"},
        BadValue{"/hidden_act", "\"gelu\"", "gelu"}, BadValue{"/attention_bias", "true", "attention_bias"},
        BadValue{"/mlp_bias", "true", "mlp_bias"}, BadValue{"/use_sliding_window", "true", "use_sliding_window"},
        BadValue{"/layer_types", "[\"full_attention\",\"sliding_attention\"]", "layer_types"},
        BadValue{"/quantization_config", "{\"bits\":4}", "quantization_config"},
        BadValue{"/num_experts", "8", "num_experts"}, BadValue{"/model_type", "\"mistral\"", "mistral"},
        BadValue{"/model_type", "\"gemma2\"", "is not supported (llama, qwen2, qwen3)"},
        BadValue{"/num_local_experts", "8", "num_local_experts"},
        BadValue{"/attn_logit_softcapping", "50.0", "attn_logit_softcapping"},
        BadValue{"/rope_scaling/rope_type", "\"longrope\"", "longrope"},
        BadValue{"/rope_scaling/rope_type", "\"dynamic\"", "dynamic"},
        BadValue{"/partial_rotary_factor", "0.5", "partial_rotary"},
        BadValue{"/rope_scaling/rope_type", "\"yarn\"", "rope_scaling: rope_type \"yarn\""},
        BadValue{"/rope_scaling", "7", "rope_scaling"}, BadValue{"/rope_scaling/factor", "0", "factor"},
        BadValue{"/rope_scaling/high_freq_factor", "1.0", "high_freq_factor"},
        BadValue{"/hidden_size", "0", "hidden_size is 0"}, BadValue{"/hidden_size", "1e3", "hidden_size"},
        BadValue{"/hidden_size", "18446744073709551615", "hidden_size"},
        BadValue{"/hidden_size", "\"192\"", "hidden_size"},
        BadValue{"/num_hidden_layers", "1000000", "num_hidden_layers"},
        BadValue{"/num_key_value_heads", "4", "not a multiple"}, BadValue{"/head_dim", "63", "odd"},
        BadValue{"/vocab_size", "-1", "vocab_size"}, BadValue{"/rms_norm_eps", "0", "rms_norm_eps"},
        BadValue{"/rope_theta", "\"x\"", "rope_theta"}, BadValue{"/eos_token_id", "1000", "eos_token_id"},
        BadValue{"/eos_token_id", "[1,\"x\"]", "eos_token_id"}, BadValue{"/bos_token_id", "-5", "bos_token_id"},
        BadValue{"/tie_word_embeddings", "1", "tie_word_embeddings"}));

TEST(HfModelTest, SingleAndShardedHoldTheSameTensors) {
  const TempCheckpoint single("qwen3-tiny", 3), sharded("qwen3-tiny", 3, TensorType::kBF16, 3);
  ASSERT_TRUE(single.status().ok() && sharded.status().ok());
  EXPECT_TRUE(std::filesystem::exists(sharded.path() + "/model.safetensors.index.json"));
  const auto a = LoadModel(single.path()), b = LoadModel(sharded.path());
  ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
  EXPECT_EQ((*a)->weight_bytes(), (*b)->weight_bytes());
  for (std::size_t l = 0; l < 3; ++l) {
    const TensorView &x = (*a)->weights().layers[l].w_down, &y = (*b)->weights().layers[l].w_down;
    ASSERT_EQ(x.Bytes(), y.Bytes());
    EXPECT_EQ(std::memcmp(x.data, y.data, static_cast<std::size_t>(x.Bytes())), 0);
  }
  EXPECT_FALSE((*a)->has_tokenizer());
  EXPECT_EQ((*a)->weights().lm_head.data, (*a)->weights().embedding.data);
}

TEST(HfModelTest, ElementTypesHoldRoundedValues) {
  const TempCheckpoint exact("qwen2-tiny", 3, TensorType::kF32), half("qwen2-tiny", 3, TensorType::kF16);
  const auto a = LoadModel(exact.path()), b = LoadModel(half.path());
  ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
  const TensorView &x = (*a)->weights().layers[1].bq, &y = (*b)->weights().layers[1].bq;
  std::vector<float> wide(static_cast<std::size_t>(x.cols)), narrow(wide.size());
  DequantizeRow(x, 0, wide.data());
  DequantizeRow(y, 0, narrow.data());
  for (std::size_t i = 0; i < wide.size(); ++i) {
    EXPECT_LE(std::abs(wide[i] - narrow[i]), std::abs(wide[i]) * 0x1p-11f + 0x1p-25f);
  }
}

TEST(HfModelTest, GenerationConfigNamesTheEndTokens) {
  const TempCheckpoint checkpoint("qwen3-tiny", 3);
  WriteFile(checkpoint.path() + "/generation_config.json", R"({"eos_token_id":[5,6],"temperature":0.6})");
  const auto model = LoadModel(checkpoint.path());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT((*model)->config().eos_tokens, testing::ElementsAre(5, 6));
}

// A checkpoint with one file rewritten, which must be refused by name.
void ExpectRefusalAfter(const std::string& fault, const std::function<void(const std::string&)>& damage,
                        int shards = 1) {
  const TempCheckpoint checkpoint("qwen3-tiny", 3, TensorType::kBF16, shards);
  damage(checkpoint.path());
  ExpectRefusal([&] { return LoadModel(checkpoint.path()); }, checkpoint.path(), fault);
}

void Replace(const std::string& path, const std::string& from, const std::string& to) {
  std::string bytes = ReadFile(path);
  const std::size_t at = bytes.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  bytes.replace(at, from.size(), to);
  WriteFile(path, bytes);
}

TEST(HfModelTest, RefusesDamagedDirectories) {
  const std::string shard = "/model-00002-of-00003.safetensors", index = "/model.safetensors.index.json";
  const auto config = [](const char* from, const char* to) {
    return [=](const std::string& d) { Replace(d + "/config.json", from, to); };
  };
  ExpectRefusalAfter("config.json", [](const auto& d) { std::filesystem::remove(d + "/config.json"); });
  ExpectRefusalAfter("neither", [](const auto& d) { std::filesystem::remove(d + "/model.safetensors"); });
  ExpectRefusalAfter("model.layers.3.input_layernorm.weight is missing",
                     config("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4"));
  ExpectRefusalAfter("has no place", config("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2"));
  ExpectRefusalAfter("has shape [640, 256]; config.json implies [641, 256]",
                     config("\"intermediate_size\": 640", "\"intermediate_size\": 641"));
  ExpectRefusalAfter("up_proj.weight is missing", [](const auto& d) {
    Replace(d + "/model.safetensors", "layers.1.mlp.up_proj", "layers.1.mlp.xx_proj");
  });
  ExpectRefusalAfter("generation_config.json",
                     [](const auto& d) { WriteFile(d + "/generation_config.json", "{\"eos_token_id\":99999}"); });
  const auto replaced = [&](const char* from, const char* to) {
    return [=](const std::string& d) { Replace(d + index, from, to); };
  };
  ExpectRefusalAfter(
      shard, [&](const auto& d) { std::filesystem::remove(d + shard); }, 3);
  ExpectRefusalAfter("same directory", replaced("model-00002-of-00003", "../../etc/x"), 3);
  ExpectRefusalAfter("is not in", replaced("model-00002-of-00003", "model-00001-of-00003"), 3);
  ExpectRefusalAfter("model.", replaced("\"model.norm.weight\"", "\"model.morn.weight\""), 3);
  ExpectRefusalAfter(
      "weight_map", [&](const auto& d) { WriteFile(d + index, "{}"); }, 3);
}

TEST(HfModelTest, NumbersThatAreNotFiniteAreRefused) {
  for (const TensorType type : {TensorType::kF32, TensorType::kF16, TensorType::kBF16}) {
    const TempCheckpoint checkpoint("qwen3-tiny", 3, type);
    const std::string path = checkpoint.path() + "/model.safetensors";
    std::string bytes = ReadFile(path);
    bytes.replace(bytes.size() - 2, 2, type == TensorType::kF16 ? std::string("\x00\x7c", 2) : "\x80\x7f");
    WriteFile(path, bytes);
    ExpectRefusal([&] { return LoadModel(checkpoint.path()); }, "/model.safetensors: tensor ",
                  "holds a number that is NaN or infinite");
  }
}

TEST(HfModelTest, ReleasedTensorsCanStillBeRead) {
  const TempCheckpoint checkpoint("qwen3-tiny", 3);
  const auto model = LoadModel(checkpoint.path());
  ASSERT_TRUE(model.ok()) << model.status();
  const TensorView& tensor = (*model)->weights().embedding;
  const std::vector<std::byte> before(tensor.data, tensor.data + tensor.Bytes());
  (*model)->Release(tensor);
  EXPECT_EQ(std::memcmp(before.data(), tensor.data, before.size()), 0);
}

TEST(HfModelTest, TensorsAtOddAddressesAreCopied) {
  const TempCheckpoint checkpoint("qwen3-tiny", 3);
  const auto before = LoadModel(checkpoint.path());
  ASSERT_TRUE(before.ok());
  std::vector<float> expected(256), actual(256);
  DequantizeRow((*before)->weights().embedding, 7, expected.data());
  const std::string path = checkpoint.path() + "/model.safetensors";
  std::string bytes = ReadFile(path);
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  ++length;
  std::memcpy(bytes.data(), &length, 8);
  bytes.insert(bytes.begin() + 8 + static_cast<std::ptrdiff_t>(length) - 1, ' ');
  const TempDirectory moved;  // the open model still maps the old file
  WriteFile(moved.path() + "/model.safetensors", bytes);
  WriteFile(moved.path() + "/config.json", ReadFile(checkpoint.path() + "/config.json"));
  const auto after = LoadModel(moved.path());
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>((*after)->weights().embedding.data) % 2, 0u);
  DequantizeRow((*after)->weights().embedding, 7, actual.data());
  EXPECT_EQ(actual, expected);
}

}  // namespace
}  // namespace megakernel::test
