// Finds strings of a set in text ("<|im_start|>").
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/executor/executor.h"

namespace megakernel {

// A set of byte strings, each with a token. Immutable once built, then safe to use from many threads.
class TokenTrie {
 public:
  // REQUIRES: !text.empty(). A string that is there already keeps its first token.
  void Add(std::string_view text, TokenId token);

  struct Match {
    TokenId token = -1;  // -1 = none
    std::size_t bytes = 0;
  };
  // The longest string that begins at `position`. Looks at no more bytes than the longest string has.
  Match Longest(std::string_view text, std::size_t position) const;

  bool empty() const { return nodes_.size() == 1; }

 private:
  static std::uint64_t Edge(std::uint32_t node, char c) {
    return static_cast<std::uint64_t>(node) << 8 | static_cast<std::uint8_t>(c);
  }

  std::vector<TokenId> nodes_ = {-1};  // the token that ends here, or -1; 0 is the root
  absl::flat_hash_map<std::uint64_t, std::uint32_t> children_;
  std::array<bool, 256> starts_{};  // most positions are ruled out by their first byte
};

}  // namespace megakernel
