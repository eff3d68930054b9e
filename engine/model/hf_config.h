// config.json of a Hugging Face model directory.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/model/model.h"

namespace megakernel {

// Reads the text of config.json for LlamaForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM. `where` (the file) starts
// every message. InvalidArgument names the key, its value and what is allowed; an option that would change the model's
// arithmetic and is not implemented here (sliding window, mixture of experts, other RoPE types or activations, extra
// biases, quantised weights) is refused by name, never ignored.
// ModelConfig::name is model_type. Token ids of generation_config.json are not looked at here.
// Source: transformers configuration_{llama,qwen2,qwen3}.py; keys of both 4.x (rope_theta, rope_scaling) and 5.x
// (rope_parameters).
absl::StatusOr<ModelConfig> ParseHfConfig(std::string_view text, const std::string& where);

// Takes from the text of generation_config.json what it has: end-of-sequence and start ids, and the sampling defaults
// temperature, top_k, top_p, min_p and repetition_penalty. do_sample is not looked at: a request says whether it wants
// the likeliest token.
absl::Status ApplyGenerationConfig(std::string_view text, const std::string& where, ModelConfig& config);

}  // namespace megakernel
