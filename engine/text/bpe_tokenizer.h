// Byte-level byte-pair tokenizer (GPT-2's kind, as Llama 3, Qwen and SmolLM use it).
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/added_tokens.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/tokenizer.h"
#include "engine/text/vocabulary_tokenizer.h"

namespace megakernel {

// Everything a tokenizer is made from, whatever file it came from. Views; needed only while Create runs.
struct BpeVocabulary {
  std::vector<std::string_view> tokens;  // by id; kNormal ones written in the alphabet of printable bytes
  std::vector<TokenKind> kinds;          // as many as tokens; none is kByte
  std::vector<std::string_view> merges;  // "left right", the first merges first
  PreTokenizer rules;
  // Of tokens of kind kControl and kUserDefined; those not listed have no flag but `special`.
  std::vector<std::pair<TokenId, AddedTokenFlags>> flags = {};
};

// Source: Hugging Face tokenizers 0.23, models/bpe and pre_tokenizers/byte_level. A byte that the vocabulary has no
// token for (SmolLM2 lacks 21, none of which common text holds) is left out, as there. InvalidArgument names the token
// or merge: an empty or repeated token, a merge that is not two tokens or whose result is no token.
absl::StatusOr<std::unique_ptr<Tokenizer>> CreateBpeTokenizer(const BpeVocabulary& vocabulary);

}  // namespace megakernel
