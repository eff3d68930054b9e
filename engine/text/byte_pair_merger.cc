#include "engine/text/byte_pair_merger.h"

#include <algorithm>
#include <functional>

namespace megakernel {
namespace {

std::uint64_t Key(TokenId left, TokenId right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}

}  // namespace

bool BytePairMerger::AddMerge(TokenId left, TokenId right, std::uint32_t rank, TokenId result) {
  return rules_.emplace(Key(left, right), Rule{rank, result}).second;
}

const BytePairMerger::Rule* BytePairMerger::Find(TokenId left, TokenId right) const {
  const auto found = rules_.find(Key(left, right));
  return found == rules_.end() ? nullptr : &found->second;
}

void BytePairMerger::PushPair(std::int32_t left, Scratch& scratch) const {
  const Symbol& symbol = scratch.symbols[static_cast<std::size_t>(left)];
  if (symbol.next < 0) return;
  const Rule* merge = Find(symbol.token, scratch.symbols[static_cast<std::size_t>(symbol.next)].token);
  if (merge == nullptr) return;
  scratch.heap.push_back(static_cast<std::uint64_t>(merge->rank) << 32 | static_cast<std::uint32_t>(left));
  std::push_heap(scratch.heap.begin(), scratch.heap.end(), std::greater<>());
}

void BytePairMerger::Encode(std::string_view word, Scratch& scratch, std::vector<TokenId>& tokens) const {
  for (const char c : word) {
    const TokenId token = byte_tokens_[static_cast<std::uint8_t>(c)];
    if (token != kNoToken) scratch.Add(token);
  }
  Merge(scratch, tokens);
}

void BytePairMerger::Merge(Scratch& scratch, std::vector<TokenId>& tokens) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  if (symbols.empty()) return;
  symbols.back().next = -1;
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) PushPair(static_cast<std::int32_t>(i), scratch);

  while (!scratch.heap.empty()) {
    std::pop_heap(scratch.heap.begin(), scratch.heap.end(), std::greater<>());
    const std::uint64_t entry = scratch.heap.back();
    scratch.heap.pop_back();
    Symbol& left = symbols[entry & 0xffffffffu];
    // Entries are not taken out when a neighbour changes: one whose pair is gone or has another rank is stale.
    if (left.token == kNoToken || left.next < 0) continue;
    Symbol& right = symbols[static_cast<std::size_t>(left.next)];
    const Rule* merge = Find(left.token, right.token);
    if (merge == nullptr || merge->rank != entry >> 32) continue;
    left.token = merge->result;
    left.next = right.next;
    right.token = kNoToken;
    const auto index = static_cast<std::int32_t>(entry & 0xffffffffu);
    if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = index;
    if (left.previous >= 0) PushPair(left.previous, scratch);
    PushPair(index, scratch);
  }
  for (std::int32_t i = 0; i >= 0; i = symbols[static_cast<std::size_t>(i)].next) {
    tokens.push_back(symbols[static_cast<std::size_t>(i)].token);
  }
  symbols.clear();
}

}  // namespace megakernel
