#include "engine/model/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numbers>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/absl_view.h"
#include "engine/model/family.h"

namespace megakernel {
namespace {

constexpr std::int64_t kMaxLayers = 1024;
constexpr std::int64_t kMaxHeads = 1024;
constexpr std::int64_t kMaxHeadDim = 1024;
constexpr std::int64_t kMaxDimension = 1 << 17;
constexpr std::int64_t kMaxContext = 1 << 24;
constexpr std::int64_t kMaxVocab = 1 << 20;
constexpr double kMaxRopeTheta = 1e12;
constexpr double kMaxRopeFactor = 1e6;

// Keys below the architecture's name that ReadGgufConfig reads or that change nothing.
constexpr std::string_view kKnownKeys[] = {
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.freq_base",
    "rope.dimension_count",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "vocab_size",
    "expert_count",
    "expert_used_count",
};

// Reads keys below "<architecture>." and remembers the first error, so that the caller checks once.
class Fields {
 public:
  Fields(const GgufFile& file, std::string_view architecture) : file_(file), prefix_(std::string(architecture) + ".") {}

  bool Has(std::string_view key) const { return file_.Has(Full(key)); }

  std::int32_t Integer(std::string_view key, std::int64_t minimum, std::int64_t maximum) {
    return static_cast<std::int32_t>(Keep(file_.GetInteger(Full(key), minimum, maximum), minimum));
  }

  std::int32_t Integer(std::string_view key, std::int64_t minimum, std::int64_t maximum, std::int32_t fallback) {
    return Has(key) ? Integer(key, minimum, maximum) : fallback;
  }

  double Float(std::string_view key, double minimum, double maximum) {
    const double value = Keep(file_.GetFloat(Full(key)), minimum);
    if (value < minimum || value > maximum) {
      Fail(key, absl::StrCat(value, " is not in ", minimum, " to ", maximum));
      return minimum;
    }
    return value;
  }

  double Float(std::string_view key, double minimum, double maximum, double fallback) {
    return Has(key) ? Float(key, minimum, maximum) : fallback;
  }

  std::string_view String(std::string_view key, std::string_view fallback) {
    return Has(key) ? Keep(file_.GetString(Full(key)), std::string_view()) : fallback;
  }

  void Fail(std::string_view key, std::string_view problem) {
    if (status_.ok()) status_ = file_.Error(Full(key), problem);
  }

  void RefuseUnknownKeys() {
    for (const std::string_view key : file_.keys()) {
      if (!key.starts_with(prefix_)) continue;
      const std::string_view name = key.substr(prefix_.size());
      if (std::find(std::begin(kKnownKeys), std::end(kKnownKeys), name) == std::end(kKnownKeys)) {
        Fail(name, "this option of the architecture is not supported");
      }
    }
  }

  void Keep(const absl::Status& status) {
    if (status_.ok()) status_ = status;
  }

  const absl::Status& status() const { return status_; }

 private:
  std::string Full(std::string_view key) const { return prefix_ + std::string(key); }

  template <class T>
  T Keep(absl::StatusOr<T> value, T otherwise) {
    if (value.ok()) return *std::move(value);
    if (status_.ok()) status_ = value.status();
    return otherwise;
  }

  const GgufFile& file_;
  std::string prefix_;
  absl::Status status_;
};

absl::StatusOr<const FamilyFacts*> ReadFamily(const GgufFile& file) {
  absl::StatusOr<std::string_view> name = file.GetString("general.architecture");
  if (!name.ok()) return name.status();
  if (const FamilyFacts* facts = FindFamily(*name); facts != nullptr) return facts;
  return file.Error("general.architecture",
                    absl::StrCat("\"", AbslView(*name), "\" is not supported (", FamilyNames(), ")"));
}

void ReadShapes(Fields& fields, ModelConfig& config) {
  config.num_layers = fields.Integer("block_count", 1, kMaxLayers);
  config.hidden = fields.Integer("embedding_length", 1, kMaxDimension);
  config.ffn = fields.Integer("feed_forward_length", 1, kMaxDimension);
  config.max_context = fields.Integer("context_length", 1, kMaxContext);
  config.num_q_heads = fields.Integer("attention.head_count", 1, kMaxHeads);
  config.num_kv_heads = fields.Integer("attention.head_count_kv", 1, kMaxHeads, config.num_q_heads);
  config.rms_eps = static_cast<float>(fields.Float("attention.layer_norm_rms_epsilon", 1e-12, 1.0));
  if (!fields.status().ok()) return;
  if (config.num_q_heads % config.num_kv_heads != 0) {
    fields.Fail("attention.head_count", absl::StrCat(config.num_q_heads, " heads are not a multiple of the ",
                                                     config.num_kv_heads, " key and value heads"));
  }
  if (!fields.Has("attention.key_length") && config.hidden % config.num_q_heads != 0) {
    fields.Fail("embedding_length", absl::StrCat(config.hidden, " is not a multiple of the ", config.num_q_heads,
                                                 " heads, and no key_length is given"));
  }
  config.head_dim = fields.Integer("attention.key_length", 2, kMaxHeadDim, config.hidden / config.num_q_heads);
  if (config.head_dim % 2 != 0 || config.head_dim < 2 || config.head_dim > kMaxHeadDim) {
    fields.Fail("attention.head_count",
                absl::StrCat("heads of ", config.head_dim, " elements (an even number up to ", kMaxHeadDim, ")"));
  }
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    const std::int32_t size = fields.Integer(key, 1, kMaxDimension, config.head_dim);
    if (size != config.head_dim) {
      fields.Fail(key, absl::StrCat(size, " differs from the ", config.head_dim, " elements of a head"));
    }
  }
  if (fields.Integer("expert_count", 0, kMaxDimension, 0) != 0) {
    fields.Fail("expert_count", "mixtures of experts are not supported");
  }
}

void ReadRope(Fields& fields, ModelConfig& config) {
  config.rope_theta = fields.Float("rope.freq_base", 1.0, kMaxRopeTheta, 10000.0);
  const std::string_view type = fields.String("rope.scaling.type", "none");
  if (type == "linear") {
    config.rope_scaling = RopeScaling::kLinear;
    config.rope_factor = fields.Float("rope.scaling.factor", 1.0, kMaxRopeFactor);
  } else if (type != "none") {
    fields.Fail("rope.scaling.type", absl::StrCat("\"", AbslView(type), "\" is not supported (none, linear)"));
  } else if (fields.Has("rope.scaling.factor")) {
    fields.Fail("rope.scaling.factor", "is given without rope.scaling.type");
  }
}

// Llama 3 scaling comes as a tensor of divisors, one a frequency, made by convert_hf_to_gguf.py with these constants
// and a factor (8 for 3.1, 32 for 3.2). It is turned back into that factor, so that all code behind knows one form.
void ReadRopeDivisors(const GgufFile& file, Fields& fields, ModelConfig& config) {
  constexpr double kLowFreqFactor = 1.0, kHighFreqFactor = 4.0, kTolerance = 1e-5;
  constexpr std::int32_t kOriginalContext = 8192;
  const TensorView* tensor = file.Find(kRopeDivisorsName);
  if (tensor == nullptr) return;
  const auto refuse = [&](std::string_view problem) { fields.Keep(file.Error(tensor->name, problem)); };
  if (config.family != Family::kLlama) return refuse("the architecture has no place for this tensor");
  if (config.rope_scaling != RopeScaling::kNone) return refuse("is given together with rope.scaling.type");
  if (tensor->type != TensorType::kF32 || tensor->rows != 1 || tensor->cols != config.head_dim / 2) {
    return refuse(absl::StrCat("must be ", config.head_dim / 2, " numbers of type F32"));
  }
  std::vector<float> divisors(static_cast<std::size_t>(tensor->cols));
  DequantizeRow(*tensor, 0, divisors.data());
  const double factor = *std::max_element(divisors.begin(), divisors.end());
  for (std::size_t i = 0; i < divisors.size(); ++i) {
    const double frequency = std::pow(config.rope_theta, -2.0 * static_cast<double>(i) / config.head_dim);
    const double turns = kOriginalContext * frequency / (2 * std::numbers::pi);
    const double smooth = std::clamp((turns - kLowFreqFactor) / (kHighFreqFactor - kLowFreqFactor), 0.0, 1.0);
    const double expected = 1.0 / ((1.0 - smooth) / factor + smooth);
    if (!(std::abs(divisors[i] - expected) <= kTolerance * expected)) {
      return refuse(
          absl::StrCat("number ", i, " is ", divisors[i], "; Llama 3 scaling by ", factor, " asks for ", expected));
    }
  }
  if (factor <= 1.0) return;
  config.rope_scaling = RopeScaling::kLlama3;
  config.rope_factor = factor;
  config.rope_low_freq_factor = kLowFreqFactor;
  config.rope_high_freq_factor = kHighFreqFactor;
  config.rope_original_context = kOriginalContext;
}

absl::Status ReadVocabulary(const GgufFile& file, Fields& fields, ModelConfig& config) {
  const TensorView* embedding = file.Find("token_embd.weight");
  if (embedding == nullptr) return file.Error("token_embd.weight", "the tensor is missing");
  if (embedding->rows > kMaxVocab) {
    return file.Error(embedding->name, absl::StrCat(embedding->rows, " rows, one a token, are more than ", kMaxVocab));
  }
  config.vocab = static_cast<std::int32_t>(embedding->rows);
  const std::int32_t stated = fields.Integer("vocab_size", 1, kMaxVocab, config.vocab);
  if (stated != config.vocab) {
    fields.Fail("vocab_size", absl::StrCat(stated, " differs from the ", config.vocab, " rows of token_embd.weight"));
  }
  config.tied_embedding = file.Find("output.weight") == nullptr;
  return absl::OkStatus();
}

// Adds the token of `key` to `tokens`, if the file has the key.
absl::Status AddToken(const GgufFile& file, std::string_view key, std::int32_t vocab,
                      std::vector<std::int32_t>& tokens) {
  if (!file.Has(key)) return absl::OkStatus();
  absl::StatusOr<std::int64_t> token = file.GetInteger(key, 0, vocab - 1);
  if (!token.ok()) return token.status();
  const auto id = static_cast<std::int32_t>(*token);
  if (std::find(tokens.begin(), tokens.end(), id) == tokens.end()) tokens.push_back(id);
  return absl::OkStatus();
}

absl::Status ReadSpecialTokens(const GgufFile& file, ModelConfig& config) {
  std::vector<std::int32_t> bos;
  if (absl::Status status = AddToken(file, "tokenizer.ggml.bos_token_id", config.vocab, bos); !status.ok())
    return status;
  if (!bos.empty()) config.bos_token = bos.front();
  for (const char* key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    if (absl::Status status = AddToken(file, key, config.vocab, config.eos_tokens); !status.ok()) return status;
  }
  if (!file.Has("tokenizer.ggml.add_bos_token")) {
    // llama.cpp's default goes by the pre-tokenizer, and is on for scored pieces.
    absl::StatusOr<std::string_view> pre = file.GetString("tokenizer.ggml.pre");
    absl::StatusOr<std::string_view> model = file.GetString("tokenizer.ggml.model");
    const bool adds = (pre.ok() && *pre == "llama-bpe") || (model.ok() && *model == "llama");
    config.add_bos = config.bos_token >= 0 && adds;
    return absl::OkStatus();
  }
  absl::StatusOr<bool> add = file.GetBool("tokenizer.ggml.add_bos_token");
  if (!add.ok()) return add.status();
  if (*add && config.bos_token < 0)
    return file.Error("tokenizer.ggml.add_bos_token", "is true, but there is no bos_token_id");
  config.add_bos = *add;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ReadGgufConfig(const GgufFile& file) {
  absl::StatusOr<const FamilyFacts*> facts = ReadFamily(file);
  if (!facts.ok()) return facts.status();
  ModelConfig config;
  ApplyFamily(**facts, config);
  if (file.Has("general.name")) {
    absl::StatusOr<std::string_view> name = file.GetString("general.name");
    if (!name.ok()) return name.status();
    config.name = *name;
  }
  Fields fields(file, (*facts)->name);
  fields.RefuseUnknownKeys();
  ReadShapes(fields, config);
  if (!fields.status().ok()) return fields.status();
  ReadRope(fields, config);
  if (fields.status().ok()) ReadRopeDivisors(file, fields, config);
  if (absl::Status status = ReadVocabulary(file, fields, config); !status.ok()) return status;
  if (!fields.status().ok()) return fields.status();
  if (absl::Status status = ReadSpecialTokens(file, config); !status.ok()) return status;
  return config;
}

}  // namespace megakernel
