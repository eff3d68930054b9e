// The merges of a byte-pair vocabulary.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/executor/executor.h"

namespace megakernel {

// Merges the symbols of a word into tokens: always the pair of neighbours whose merge has the lowest rank, the leftmost
// of equals. O(n log n) in the symbols of the word. Encode and Merge are const and safe to use from many threads.
class BytePairMerger {
 public:
  // Buffers of Encode, reused over the words of a text. Not shared between threads.
  struct Scratch;

  BytePairMerger() { byte_tokens_.fill(kNoToken); }

  void SetByteToken(std::uint8_t byte, TokenId token) { byte_tokens_[byte] = token; }
  // left, right -> result. False when the pair has a merge already.
  bool AddMerge(TokenId left, TokenId right, std::uint32_t rank, TokenId result);

  // Appends the tokens of `word`, whose symbols are its bytes. A byte that has no token of its own is left out.
  void Encode(std::string_view word, Scratch& scratch, std::vector<TokenId>& tokens) const;
  // Appends the tokens of the symbols that were put in `scratch`, and takes them out.
  void Merge(Scratch& scratch, std::vector<TokenId>& tokens) const;

  struct Symbol {
    TokenId token;
    std::int32_t previous;  // -1 at the start
    std::int32_t next;      // -1 at the end
  };
  struct Scratch {
    void Add(TokenId token) {
      const auto index = static_cast<std::int32_t>(symbols.size());
      symbols.push_back({token, index - 1, index + 1});
    }

    std::vector<Symbol> symbols;
    std::vector<std::uint64_t> heap;  // rank << 32 | index of the left symbol, smallest first
  };

 private:
  static constexpr TokenId kNoToken = -1;
  struct Rule {
    std::uint32_t rank;
    TokenId result;
  };

  const Rule* Find(TokenId left, TokenId right) const;
  void PushPair(std::int32_t left, Scratch& scratch) const;

  std::array<TokenId, 256> byte_tokens_;
  absl::flat_hash_map<std::uint64_t, Rule> rules_;
};

}  // namespace megakernel
