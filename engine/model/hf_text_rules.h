// The parts of tokenizer.json around its vocabulary: normalizer, pre-tokenizer, decoder and post-processor.
#pragma once

#include <cstdint>

#include "engine/model/json_text.h"
#include "engine/text/pre_tokenizer.h"

namespace megakernel {

// Normalizer, pre-tokenizer and `ignore_merges` of the model as rules. What is not supported is recorded in `file`.
PreTokenizer ReadTextRules(JsonFields& file);

// The decoder must undo what the byte-level pre-tokenizer does.
void CheckDecoder(JsonFields& file);

// The same parts of a tokenizer with byte_fallback: spaces become U+2581 and back.
struct PieceRules {
  bool adds_space = false;    // the normalizer puts one before every text
  bool strips_space = false;  // the decoder leaves one out at the start
};
PieceRules ReadPieceRules(JsonFields& file);

// The token that the post-processor puts before a text; -1 for none. Anything after a text is refused.
std::int32_t ReadFirstToken(JsonFields& file);

}  // namespace megakernel
