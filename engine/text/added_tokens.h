// Tokens that are written out in text and found before anything is merged: special tokens and those added later.
#pragma once

#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/executor/executor.h"
#include "engine/text/token_trie.h"

namespace megakernel {

// How an added token is found. The names are those of tokenizer.json.
struct AddedTokenFlags {
  bool special = false;      // found only where the caller wants special tokens
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // takes the white space after it along
  bool single_word = false;  // not inside a word: no word character may stand before or after it
  bool normalized = false;   // looked for in the normalized text, itself normalized
};

// Immutable once built, then safe to use from many threads.
// Source: Hugging Face tokenizers 0.23, tokenizer/added_vocabulary.rs (find_matches, extract_and_normalize).
class AddedTokens {
 public:
  // `text` as it is looked for. REQUIRES: !text.empty(). Of two equal texts the first counts.
  void Add(TokenId token, std::string_view text, AddedTokenFlags flags);

  // A token, or text between tokens (token -1).
  struct Piece {
    TokenId token = -1;
    std::string_view text;
  };

  // Appends the pieces of `text` that the tokens with this flag `normalized` cut it into: from left to right, the
  // longest token at each place. With `parse_special` off special tokens stay text, and so does what else begins inside
  // them.
  void Split(std::string_view text, bool normalized, bool parse_special, std::vector<Piece>& pieces) const;

  // Whether Split can find anything.
  bool Any(bool normalized) const { return !tries_[normalized].empty(); }

 private:
  TokenTrie tries_[2];  // by flag `normalized`
  absl::flat_hash_map<TokenId, AddedTokenFlags> flags_;
};

}  // namespace megakernel
