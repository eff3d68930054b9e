#include "engine/model/hf_model.h"

#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/model/digest.h"
#include "engine/model/hf_chat.h"
#include "engine/model/hf_config.h"
#include "engine/model/hf_shards.h"
#include "engine/model/hf_tokenizer.h"
#include "engine/model/tensor_type.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"

namespace megakernel {
namespace {

constexpr std::int64_t kMaxConfigBytes = 1 << 20;

// Stands where a tokenizer would: see Model::has_tokenizer.
class NoTokenizer : public Tokenizer {
 public:
  explicit NoTokenizer(std::int32_t vocab) : vocab_(vocab) {}
  std::vector<TokenId> Encode(std::string_view, bool) const override { return {}; }
  std::string_view TokenBytes(TokenId, bool) const override { return {}; }
  bool IsSpecial(TokenId) const override { return false; }
  std::int32_t vocab() const override { return vocab_; }

 private:
  std::int32_t vocab_;
};

class HfModel : public Model {
 public:
  HfModel(ModelConfig config, HfShards shards) : config_(std::move(config)), shards_(std::move(shards)) {}

  // Tokenizer and chat template, where the directory has them.
  absl::Status ReadText(const std::string& directory);
  // Finds every tensor that the config implies and refuses the others.
  absl::Status Bind(const LoadProgress& progress);

  const ModelConfig& config() const override { return config_; }
  const ModelWeights& weights() const override { return weights_; }
  bool has_tokenizer() const override { return has_tokenizer_; }
  const Tokenizer& tokenizer() const override { return *tokenizer_; }
  const ChatTemplate* chat_template() const override { return chat_template_.get(); }
  std::int64_t weight_bytes() const override { return weight_bytes_; }
  const std::string& identity() const override { return identity_; }
  void Release(const TensorView& tensor) const override;

 private:
  // The tensor `name` of [rows, cols], or [cols] when rows is 0. Records the first thing that is wrong.
  TensorView Take(const std::string& name, std::int64_t rows, std::int64_t cols);
  void BindLayer(const std::string& prefix, LayerWeights& layer);
  void RefuseUnused();
  // Reads all bytes once: makes the identity, and refuses numbers that are not finite.
  void ReadThrough(const LoadProgress& progress);
  // The bytes of `tensor`, told to `look` piece by piece.
  void ReadThrough(const SafetensorsFile& file, const StoredTensor& tensor,
                   const std::function<void(std::span<const std::byte>)>& look);

  ModelConfig config_;
  HfShards shards_;
  bool has_tokenizer_ = false;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;
  std::string tokenizer_text_;  // until ReadThrough has read it
  ModelWeights weights_;
  std::set<std::string> used_;
  std::vector<std::vector<std::byte>> aligned_;  // copies of tensors that a file holds at odd addresses
  absl::Status status_;
  std::int64_t weight_bytes_ = 0;
  std::string identity_;
};

TensorView HfModel::Take(const std::string& name, std::int64_t rows, std::int64_t cols) {
  if (!status_.ok()) return {};
  const auto found = shards_.tensors().find(name);
  if (found == shards_.tensors().end()) {
    status_ =
        absl::InvalidArgumentError(absl::StrCat(shards_.files().front().path(), ": tensor ", name, " is missing"));
    return {};
  }
  const StoredTensor& stored = *found->second;
  const std::vector<std::int64_t> shape = rows == 0 ? std::vector{cols} : std::vector{rows, cols};
  if (stored.shape != shape) {
    status_ = absl::InvalidArgumentError(absl::StrCat(shards_.FileOf(name), ": tensor ", name, " has shape [",
                                                      absl::StrJoin(stored.shape, ", "), "]; config.json implies [",
                                                      absl::StrJoin(shape, ", "), "]"));
    return {};
  }
  used_.insert(name);
  weight_bytes_ += static_cast<std::int64_t>(stored.bytes.size());
  const std::byte* data = stored.bytes.data();
  if (reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(BlockBytes(stored.type)) != 0) {
    data = aligned_.emplace_back(stored.bytes.begin(), stored.bytes.end()).data();
  }
  return {.name = name, .type = stored.type, .rows = rows == 0 ? 1 : rows, .cols = cols, .data = data};
}

void HfModel::BindLayer(const std::string& prefix, LayerWeights& layer) {
  const ModelConfig& c = config_;
  const std::int64_t q_width = std::int64_t{c.num_q_heads} * c.head_dim;
  const std::int64_t kv_width = std::int64_t{c.num_kv_heads} * c.head_dim;
  layer.attention_norm = Take(prefix + "input_layernorm.weight", 0, c.hidden);
  layer.wq = Take(prefix + "self_attn.q_proj.weight", q_width, c.hidden);
  layer.wk = Take(prefix + "self_attn.k_proj.weight", kv_width, c.hidden);
  layer.wv = Take(prefix + "self_attn.v_proj.weight", kv_width, c.hidden);
  if (c.qkv_bias) {
    layer.bq = Take(prefix + "self_attn.q_proj.bias", 0, q_width);
    layer.bk = Take(prefix + "self_attn.k_proj.bias", 0, kv_width);
    layer.bv = Take(prefix + "self_attn.v_proj.bias", 0, kv_width);
  }
  if (c.qk_norm) {
    layer.q_norm = Take(prefix + "self_attn.q_norm.weight", 0, c.head_dim);
    layer.k_norm = Take(prefix + "self_attn.k_norm.weight", 0, c.head_dim);
  }
  layer.wo = Take(prefix + "self_attn.o_proj.weight", c.hidden, q_width);
  layer.ffn_norm = Take(prefix + "post_attention_layernorm.weight", 0, c.hidden);
  layer.w_gate = Take(prefix + "mlp.gate_proj.weight", c.ffn, c.hidden);
  layer.w_up = Take(prefix + "mlp.up_proj.weight", c.ffn, c.hidden);
  layer.w_down = Take(prefix + "mlp.down_proj.weight", c.hidden, c.ffn);
}

void HfModel::RefuseUnused() {
  for (const auto& [name, tensor] : shards_.tensors()) {
    const bool ignored = name.ends_with(".rotary_emb.inv_freq") || (config_.tied_embedding && name == "lm_head.weight");
    if (status_.ok() && !ignored && used_.count(name) == 0) {
      status_ = absl::InvalidArgumentError(absl::StrCat(shards_.FileOf(name), ": tensor ", name,
                                                        " has no place in a model of type ", config_.name, " with ",
                                                        config_.num_layers, " layers"));
    }
  }
}

// In pieces that stay in the cache between the two looks, and whose pages are given back at once.
void HfModel::ReadThrough(const SafetensorsFile& file, const StoredTensor& tensor,
                          const std::function<void(std::span<const std::byte>)>& look) {
  constexpr std::size_t kPieceBytes = 1 << 20;
  for (std::size_t at = 0; at < tensor.bytes.size() && status_.ok(); at += kPieceBytes) {
    const std::span<const std::byte> piece = tensor.bytes.subspan(at, std::min(kPieceBytes, tensor.bytes.size() - at));
    look(piece);
    if (!AreFinite(tensor.type, piece.data(), static_cast<std::int64_t>(piece.size()) / BlockBytes(tensor.type))) {
      status_ = absl::InvalidArgumentError(
          absl::StrCat(file.path(), ": tensor ", tensor.name, " holds a number that is NaN or infinite"));
    }
    file.Release(piece);
  }
}

void HfModel::ReadThrough(const LoadProgress& progress) {
  Digest digest;
  std::int64_t done = 0, total = 0;
  for (const SafetensorsFile& file : shards_.files()) total += static_cast<std::int64_t>(file.bytes().size());
  const auto look = [&](std::span<const std::byte> piece) {
    digest.Add(piece);
    done += static_cast<std::int64_t>(piece.size());
    if (progress) progress("read", done, total);
  };
  for (const SafetensorsFile& file : shards_.files()) {
    const std::byte* const data = file.tensors().empty() ? nullptr : file.tensors().front().bytes.data();
    const std::size_t header =
        data == nullptr ? file.bytes().size() : static_cast<std::size_t>(data - file.bytes().data());
    look(file.bytes().first(header));
    for (const StoredTensor& tensor : file.tensors()) ReadThrough(file, tensor, look);
  }
  digest.Add(std::as_bytes(std::span(tokenizer_text_)));
  tokenizer_text_ = {};
  identity_ = digest.Hex();
}

void HfModel::Release(const TensorView& tensor) const {
  for (const SafetensorsFile& file : shards_.files()) {
    file.Release({tensor.data, static_cast<std::size_t>(tensor.Bytes())});
  }
}

absl::Status HfModel::ReadText(const std::string& directory) {
  const std::string path = directory + "/tokenizer.json";
  auto text = ReadTextFile(path, kMaxTokenizerBytes);
  if (absl::IsNotFound(text.status())) {
    tokenizer_ = std::make_unique<NoTokenizer>(config_.vocab);
    return absl::OkStatus();
  }
  if (!text.ok()) return text.status();
  auto read = ParseHfTokenizer(*text, path, config_.vocab);
  if (!read.ok()) return read.status();
  // The parsed file was many small pieces of memory, which would stay with the process while weights are packed.
  malloc_trim(0);
  tokenizer_text_ = *std::move(text);
  tokenizer_ = std::move(read->tokenizer);
  has_tokenizer_ = true;
  if (read->first_token >= 0) {
    config_.bos_token = read->first_token;
    config_.add_bos = true;
  }
  auto chat_template = LoadHfChatTemplate(directory);
  if (!chat_template.ok()) return chat_template.status();
  chat_template_ = *std::move(chat_template);
  return absl::OkStatus();
}

absl::Status HfModel::Bind(const LoadProgress& progress) {
  weights_.embedding = Take("model.embed_tokens.weight", config_.vocab, config_.hidden);
  weights_.layers.resize(static_cast<std::size_t>(config_.num_layers));
  for (std::int32_t l = 0; l < config_.num_layers && status_.ok(); ++l) {
    BindLayer(absl::StrCat("model.layers.", l, "."), weights_.layers[static_cast<std::size_t>(l)]);
  }
  weights_.final_norm = Take("model.norm.weight", 0, config_.hidden);
  weights_.lm_head =
      config_.tied_embedding ? weights_.embedding : Take("lm_head.weight", config_.vocab, config_.hidden);
  RefuseUnused();
  if (status_.ok()) ReadThrough(progress);
  return status_;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> LoadHfModel(const std::string& directory, const LoadProgress& progress) {
  const std::string config_path = directory + "/config.json";
  const auto text = ReadTextFile(config_path, kMaxConfigBytes);
  if (!text.ok()) return text.status();
  auto config = ParseHfConfig(*text, config_path);
  if (!config.ok()) return config.status();

  const std::string generation_path = directory + "/generation_config.json";
  const auto generation = ReadTextFile(generation_path, kMaxConfigBytes);
  if (generation.ok()) {
    if (const auto applied = ApplyGenerationConfig(*generation, generation_path, *config); !applied.ok())
      return applied;
  } else if (!absl::IsNotFound(generation.status())) {
    return generation.status();
  }

  auto shards = HfShards::Open(directory);
  if (!shards.ok()) return shards.status();
  auto model = std::make_unique<HfModel>(*std::move(config), *std::move(shards));
  if (const absl::Status read = model->ReadText(directory); !read.ok()) return read;
  if (const absl::Status bound = model->Bind(progress); !bound.ok()) return bound;
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace megakernel
