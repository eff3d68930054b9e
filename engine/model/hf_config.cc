#include "engine/model/hf_config.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/family.h"
#include "engine/model/json_text.h"

namespace megakernel {
namespace {

constexpr std::int64_t kMaxDimension = 1 << 17;
constexpr std::int64_t kMaxVocab = 1 << 20;
constexpr std::int64_t kMaxContext = 1 << 24;

const FamilyFacts* ReadFamily(JsonFields& fields) {
  const std::string name = fields.String("model_type");
  const FamilyFacts* facts = FindFamily(name);
  if (facts == nullptr) {
    fields.Fail(absl::StrCat("model_type \"", name, "\" is not supported (", FamilyNames(), ")"));
    return nullptr;
  }
  const nlohmann::json* list = fields.Find("architectures");
  const std::string hf_class(facts->hf_class);
  if (list == nullptr || (list->is_array() && list->size() == 1 && list->front() == hf_class)) return facts;
  fields.Fail(absl::StrCat("architectures must be [\"", hf_class, "\"] where model_type is ", name));
  return nullptr;
}

// Options that change the arithmetic and have one supported value.
void RefuseUnsupported(JsonFields& fields) {
  if (const std::string act = fields.String("hidden_act", "silu"); fields.ok() && act != "silu") {
    fields.Fail(absl::StrCat("hidden_act \"", act, "\" is not supported; silu is"));
  }
  for (const char* key : {"attention_bias", "mlp_bias", "use_sliding_window"}) {
    if (fields.Bool(key, false)) fields.Fail(absl::StrCat(key, " true is not supported"));
  }
  for (const char* key : {"quantization_config", "num_experts", "num_local_experts", "attn_logit_softcapping"}) {
    if (fields.Find(key) != nullptr) fields.Fail(absl::StrCat(key, " is not supported"));
  }
  if (fields.Number("partial_rotary_factor", 0.0, 1.0, 1.0) != 1.0) {
    fields.Fail("partial_rotary_factor below 1 is not supported");
  }
  if (const nlohmann::json* layers = fields.Find("layer_types")) {
    for (const auto& type : *layers) {
      if (type != "full_attention") fields.Fail("layer_types other than full_attention are not supported");
    }
  }
}

// rope_parameters (5.x) holds theta and type together; rope_scaling (4.x) holds the type, theta stands outside.
void ReadRope(JsonFields& fields, ModelConfig& config) {
  const nlohmann::json* parameters = fields.Find("rope_parameters");
  const nlohmann::json* scaling = parameters != nullptr ? parameters : fields.Find("rope_scaling");
  config.rope_theta = fields.Number("rope_theta", 1.0, 1e12, 10000.0);
  if (scaling == nullptr) return;
  const char* key = parameters != nullptr ? "rope_parameters" : "rope_scaling";
  if (!scaling->is_object()) return fields.Fail(absl::StrCat(key, " must be an object"));

  JsonFields rope(*scaling, absl::StrCat(fields.where(), ": ", key));
  config.rope_theta = rope.Number("rope_theta", 1.0, 1e12, config.rope_theta);
  const std::string type = rope.String("rope_type", rope.String("type", "default"));
  if (type == "llama3") {
    config.rope_scaling = RopeScaling::kLlama3;
    config.rope_factor = rope.Number("factor", 1.0, 1e6);
    config.rope_low_freq_factor = rope.Number("low_freq_factor", 1e-6, 1e6);
    config.rope_high_freq_factor = rope.Number("high_freq_factor", 1e-6, 1e6);
    config.rope_original_context =
        static_cast<std::int32_t>(rope.Int("original_max_position_embeddings", 1, kMaxContext));
    if (rope.ok() && config.rope_high_freq_factor <= config.rope_low_freq_factor) {
      rope.Fail("high_freq_factor must be larger than low_freq_factor");
    }
  } else if (type == "linear") {
    config.rope_scaling = RopeScaling::kLinear;
    config.rope_factor = rope.Number("factor", 1.0, 1e6);
  } else if (type != "default") {
    rope.Fail(absl::StrCat("rope_type \"", type, "\" is not supported; default, linear and llama3 are"));
  }
  if (rope.Number("partial_rotary_factor", 0.0, 1.0, 1.0) != 1.0) {
    rope.Fail("partial_rotary_factor below 1 is not supported");
  }
  if (!rope.ok()) fields.Fail(std::string(rope.status().message().substr(fields.where().size() + 2)));
}

void ReadShapes(JsonFields& fields, ModelConfig& config) {
  const auto size = [&](const char* key, std::int64_t high, std::optional<std::int64_t> fallback = {}) {
    return static_cast<std::int32_t>(fields.Int(key, 1, high, fallback));
  };
  config.num_layers = size("num_hidden_layers", 1024);
  config.hidden = size("hidden_size", kMaxDimension);
  config.num_q_heads = size("num_attention_heads", 1024);
  config.num_kv_heads = size("num_key_value_heads", 1024, config.num_q_heads);
  config.ffn = size("intermediate_size", kMaxDimension);
  config.vocab = size("vocab_size", kMaxVocab);
  config.max_context = size("max_position_embeddings", kMaxContext);
  config.head_dim = size("head_dim", 1024, config.hidden / config.num_q_heads);
  config.rms_eps = static_cast<float>(fields.Number("rms_norm_eps", 1e-12, 1.0, 1e-6));
  if (!fields.ok()) return;
  if (config.num_q_heads % config.num_kv_heads != 0) {
    fields.Fail(absl::StrCat("num_attention_heads ", config.num_q_heads, " is not a multiple of num_key_value_heads ",
                             config.num_kv_heads));
  }
  if (config.head_dim % 2 != 0) fields.Fail(absl::StrCat("head_dim ", config.head_dim, " is odd: RoPE needs pairs"));
  if (fields.Find("head_dim") == nullptr && config.hidden % config.num_q_heads != 0) {
    fields.Fail(absl::StrCat("hidden_size ", config.hidden, " is not a multiple of num_attention_heads ",
                             config.num_q_heads, " and head_dim is missing"));
  }
}

void AddEndToken(const nlohmann::json& id, JsonFields& fields, ModelConfig& config) {
  if (!id.is_number_integer() || id < 0 || id >= config.vocab) {
    return fields.Fail(absl::StrCat("eos_token_id must hold ids from 0 to vocab_size - 1 = ", config.vocab - 1));
  }
  config.eos_tokens.push_back(id.get<std::int32_t>());
}

void ReadTokens(JsonFields& fields, ModelConfig& config) {
  if (fields.Find("bos_token_id") != nullptr) {
    config.bos_token = static_cast<std::int32_t>(fields.Int("bos_token_id", 0, config.vocab - 1));
  }
  const nlohmann::json* eos = fields.Find("eos_token_id");
  if (eos == nullptr) return;
  config.eos_tokens.clear();
  if (!eos->is_array()) return AddEndToken(*eos, fields, config);
  for (const auto& id : *eos) AddEndToken(id, fields, config);
}

void ReadSampling(JsonFields& fields, SamplingDefaults& sampling) {
  const auto number = [&fields](const char* key, double low, double high, float& value) {
    value = static_cast<float>(fields.Number(key, low, high, value));
  };
  number("temperature", 0.0, 100.0, sampling.temperature);
  number("top_p", 1e-6, 1.0, sampling.top_p);
  number("min_p", 0.0, 1.0, sampling.min_p);
  number("repetition_penalty", 1e-2, 100.0, sampling.repetition_penalty);
  sampling.top_k = static_cast<std::int32_t>(fields.Int("top_k", 0, INT32_MAX, sampling.top_k));
}

}  // namespace

absl::StatusOr<ModelConfig> ParseHfConfig(std::string_view text, const std::string& where) {
  const auto json = ParseJsonObject(text, where);
  if (!json.ok()) return json.status();
  JsonFields fields(*json, where);
  const FamilyFacts* family = ReadFamily(fields);
  if (family == nullptr) return fields.status();
  RefuseUnsupported(fields);

  ModelConfig config;
  ApplyFamily(*family, config);
  config.tied_embedding = fields.Bool("tie_word_embeddings", false);
  ReadShapes(fields, config);
  ReadRope(fields, config);
  if (fields.ok()) ReadTokens(fields, config);
  if (!fields.ok()) return fields.status();
  return config;
}

absl::Status ApplyGenerationConfig(std::string_view text, const std::string& where, ModelConfig& config) {
  const auto json = ParseJsonObject(text, where);
  if (!json.ok()) return json.status();
  JsonFields fields(*json, where);
  ReadTokens(fields, config);
  ReadSampling(fields, config.sampling);
  return fields.status();
}

}  // namespace megakernel
