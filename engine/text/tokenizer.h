// Text to token ids and back.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/executor/executor.h"

namespace megakernel {

// Immutable after construction; safe to use from many threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Special tokens written out in the text ("<|im_start|>") become their ids when `parse_special`, else plain text.
  // Adds no beginning-of-sequence token. The text is taken to stand alone: a tokenizer that puts a space before texts
  // (piece_tokenizer.h) does so here, too. Takes time linear in the text. Malformed UTF-8 is encoded byte by byte.
  virtual std::vector<TokenId> Encode(std::string_view text, bool parse_special) const = 0;

  // The bytes of one token: not always whole characters. Special tokens give "" when `skip_special`.
  // REQUIRES: 0 <= token < vocab().
  virtual std::string_view TokenBytes(TokenId token, bool skip_special) const = 0;

  virtual bool IsSpecial(TokenId token) const = 0;
  virtual std::int32_t vocab() const = 0;

  // Whether Decode leaves out a space at the start: the one that Encode puts there.
  virtual bool strips_leading_space() const { return false; }

  // Whole sequences; bytes that are not UTF-8 become U+FFFD. What a model generates goes on after something, so it is
  // not decoded by this: the bytes of its tokens are its text (text_stream.h).
  std::string Decode(const std::vector<TokenId>& tokens, bool skip_special) const;
};

}  // namespace megakernel
