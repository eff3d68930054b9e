// Finds tokens that are written out in text ("<|im_start|>").
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "engine/executor/executor.h"

namespace megakernel {

// A set of byte strings, each with a token. Immutable once built, then safe to use from many threads.
class TokenTrie {
 public:
  // REQUIRES: !text.empty(). `control` tokens are found only where the caller wants them.
  void Add(std::string_view text, TokenId token, bool control);

  struct Match {
    TokenId token = -1;  // -1 = none
    std::size_t bytes = 0;
  };
  // The longest string that begins at `position`. Looks at no more bytes than the longest string has.
  Match Longest(std::string_view text, std::size_t position, bool with_control) const;

 private:
  struct Node {
    TokenId token = -1;
    bool control = false;
  };

  static std::uint64_t Edge(std::uint32_t node, char c) {
    return static_cast<std::uint64_t>(node) << 8 | static_cast<std::uint8_t>(c);
  }

  std::vector<Node> nodes_ = {Node{}};  // 0 is the root
  absl::flat_hash_map<std::uint64_t, std::uint32_t> children_;
  std::array<bool, 256> starts_{};  // most positions are ruled out by their first byte
};

}  // namespace megakernel
