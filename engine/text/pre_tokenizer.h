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

// One row of the table of tokenizers, by the name in the metadata of a GGUF file (tokenizer.ggml.pre).
struct PreTokenizer {
  std::string_view name;
  WordStyle style;
  std::int32_t max_digits;  // kGpt4
  bool isolate_numbers;     // every \p{N} is cut out first, and the expression sees the pieces between
  bool normalized;          // text is brought to Unicode's form C first; not implemented, so the tokenizer is refused
  bool whole_words;         // a word that is in the vocabulary is one token, whatever the merges say
};

// Null when the name is not known.
const PreTokenizer* FindPreTokenizer(std::string_view name);
// "gpt-2, smollm, ...": all names, for messages.
std::string PreTokenizerNames();

// Appends the words of `text`, which together are the text. Bytes that are not UTF-8 count as one character each, of no
// class.
void SplitWords(const PreTokenizer& rules, std::string_view text, std::vector<std::string_view>& words);

}  // namespace megakernel
