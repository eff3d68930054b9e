// The tokenizer in the metadata of a GGUF file.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/model/gguf_file.h"
#include "engine/text/tokenizer.h"

namespace megakernel {

// By tokenizer.ggml.model: "gpt2" is byte-level BPE (tokenizer.ggml.{pre, tokens, token_type, merges}), "llama" scored
// pieces as SentencePiece makes them (tokenizer.ggml.{tokens, token_type, scores, add_space_prefix}). Anything else is
// refused. Errors name the key.
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadGgufTokenizer(const GgufFile& file);

}  // namespace megakernel
