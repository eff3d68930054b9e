// The merges of a byte-level byte-pair vocabulary.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/executor/executor.h"

namespace megakernel {

// Merges the bytes of a word into tokens: always the pair of neighbours whose merge comes first in the list, the
// leftmost of equals. O(n log n) in the bytes of the word. Encode is const and safe to use from many threads.
class BytePairMerger {
 public:
  // Buffers of Encode, reused over the words of a text. Not shared between threads.
  struct Scratch;

  BytePairMerger() { byte_tokens_.fill(kNoToken); }

  void SetByteToken(std::uint8_t byte, TokenId token) { byte_tokens_[byte] = token; }
  // Adds the next merge of the list: left, right -> result. False when the pair has one already.
  bool AddMerge(TokenId left, TokenId right, TokenId result);

  // Appends the tokens of `word`. A byte that has no token of its own is left out.
  void Encode(std::string_view word, Scratch& scratch, std::vector<TokenId>& tokens) const;

  struct Symbol {
    TokenId token;
    std::int32_t previous;  // -1 at the start
    std::int32_t next;      // -1 at the end
  };
  struct Scratch {
    std::vector<Symbol> symbols;
    std::vector<std::uint64_t> heap;  // rank << 32 | index of the left symbol, smallest first
  };

 private:
  static constexpr TokenId kNoToken = -1;
  struct Merge {
    std::uint32_t rank;
    TokenId result;
  };

  const Merge* Find(TokenId left, TokenId right) const;
  void PushPair(std::int32_t left, Scratch& scratch) const;

  std::array<TokenId, 256> byte_tokens_;
  absl::flat_hash_map<std::uint64_t, Merge> merges_;
};

}  // namespace megakernel
