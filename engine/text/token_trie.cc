#include "engine/text/token_trie.h"

namespace megakernel {

void TokenTrie::Add(std::string_view text, TokenId token) {
  starts_[static_cast<std::uint8_t>(text.front())] = true;
  std::uint32_t node = 0;
  for (const char c : text) {
    const auto [child, is_new] = children_.emplace(Edge(node, c), static_cast<std::uint32_t>(nodes_.size()));
    if (is_new) nodes_.push_back(-1);
    node = child->second;
  }
  if (nodes_[node] < 0) nodes_[node] = token;
}

TokenTrie::Match TokenTrie::Longest(std::string_view text, std::size_t position) const {
  Match match;
  if (!starts_[static_cast<std::uint8_t>(text[position])]) return match;
  std::uint32_t node = 0;
  for (std::size_t i = position; i < text.size(); ++i) {
    const auto child = children_.find(Edge(node, text[i]));
    if (child == children_.end()) break;
    node = child->second;
    if (nodes_[node] >= 0) match = {nodes_[node], i + 1 - position};
  }
  return match;
}

}  // namespace megakernel
