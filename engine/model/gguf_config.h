// The metadata of a GGUF file as a ModelConfig.
#pragma once

#include "absl/status/statusor.h"
#include "engine/model/gguf_file.h"
#include "engine/model/model.h"

namespace megakernel {

// Divisors of the rotary frequencies; understood where they are those of Llama 3.
inline constexpr char kRopeDivisorsName[] = "rope_freqs.weight";

// Architectures llama, qwen2 and qwen3. Every key that starts with the architecture's name must be known here: an
// option that this program does not implement would change the model's answers, so it is refused by name and never
// ignored. Sizes are checked against limits and each other. config.vocab comes from the embedding tensor,
// config.tied_embedding from the absence of output.weight. Errors name the key and the limit. Source: llama.cpp,
// gguf-py/gguf/constants.py (key names), convert_hf_to_gguf.py (their meaning).
absl::StatusOr<ModelConfig> ReadGgufConfig(const GgufFile& file);

}  // namespace megakernel
