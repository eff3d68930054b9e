// The tokenizer in the metadata of a GGUF file.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/model/gguf_file.h"
#include "engine/text/tokenizer.h"

namespace megakernel {

// tokenizer.ggml.{model, pre, tokens, token_type, merges}; the model must be "gpt2" (byte-level BPE). Errors name the
// key.
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadGgufTokenizer(const GgufFile& file);

}  // namespace megakernel
