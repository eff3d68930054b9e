// tokenizer.json of a Hugging Face model directory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/text/tokenizer.h"

namespace megakernel {

// Published files have up to 20 MB.
inline constexpr std::int64_t kMaxTokenizerBytes = std::int64_t{64} << 20;

struct HfTokenizer {
  std::unique_ptr<Tokenizer> tokenizer;
  std::int32_t first_token = -1;  // put before every plain text by the file's post-processor; -1 = none
};

// Reads the text of tokenizer.json: byte-level byte-pair encoding with the pre-tokenizers of pre_tokenizer.h and the
// normalizer NFC or none, or, with byte_fallback, pieces (piece_tokenizer.h) with the normalizers Prepend and Replace
// and no pre-tokenizer; added tokens with all their flags. `vocab` is the number of rows of the embedding: ids that the
// file does not use become tokens without bytes. `where` (the file) starts every message. InvalidArgument names the key
// or token and what is supported; a part that would change the tokens and is not implemented is refused by name.
// Source: Hugging Face tokenizers 0.23 (the serialization of each part).
absl::StatusOr<HfTokenizer> ParseHfTokenizer(std::string_view text, const std::string& where, std::int32_t vocab);

}  // namespace megakernel
