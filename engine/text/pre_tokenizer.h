// Cuts text into the words that byte pairs are merged within.
//
// Tokenizers define this by regular expressions with look-ahead. They are few and fixed, so each is a scanner written
// by hand: one pass, no backtracking, linear time whatever the text, and the same Unicode version on every system.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace megakernel {

// Which expression cuts the words.
enum class WordStyle : std::uint8_t {
  // '(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  kGpt2,
  // (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,max_digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+
  // |\s+(?!\S)|\s+
  kGpt4,
};

// What happens to a text before and beside the merges.
struct PreTokenizer {
  WordStyle style = WordStyle::kGpt2;
  std::int32_t max_digits = 1;   // kGpt4
  bool isolate_numbers = false;  // every \p{N} is cut out first, and the expression sees the pieces between
  bool nfc = false;              // text is brought to Unicode's form C first
  bool whole_words = false;      // a word that is in the vocabulary is one token, whatever the merges say
};

// By the name in the metadata of a GGUF file (tokenizer.ggml.pre). Null when it is not known.
const PreTokenizer* FindPreTokenizer(std::string_view name);
// Style and max_digits of a regular expression, written as published tokenizer.json files write it. False when it is
// not one of them.
bool FindWordStyle(std::string_view expression, PreTokenizer& rules);
// "gpt-2, smollm, ...": all names, for messages.
std::string PreTokenizerNames();

// Appends the words of `text`, which together are the text. Bytes that are not UTF-8 count as one character each, of no
// class.
void SplitWords(const PreTokenizer& rules, std::string_view text, std::vector<std::string_view>& words);

}  // namespace megakernel
