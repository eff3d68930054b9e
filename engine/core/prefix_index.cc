#include "engine/core/prefix_index.h"

#include <algorithm>

#include "absl/hash/hash.h"
#include "absl/types/span.h"
#include "engine/base/check.h"

namespace megakernel {
namespace {

std::uint64_t Hash(ChainId parent, std::span<const TokenId> tokens) {
  return absl::HashOf(parent, absl::MakeConstSpan(tokens.data(), tokens.size()));
}

}  // namespace

PrefixIndex::PrefixIndex(std::int32_t num_pages, std::int32_t page_tokens)
    : page_tokens_(page_tokens), entries_(num_pages), tokens_(static_cast<std::size_t>(num_pages) * page_tokens) {
  by_hash_.reserve(num_pages);
  live_.reserve(num_pages);
}

ChainId PrefixIndex::Root(const std::string& tenant) {
  const auto [it, inserted] = roots_.try_emplace(tenant, next_id_);
  if (inserted) live_.emplace(next_id_++, layout::kNoPage);
  return it->second;
}

bool PrefixIndex::Matches(PageId page, ChainId parent, std::span<const TokenId> tokens) const {
  return entries_[page].parent == parent &&
         std::equal(tokens.begin(), tokens.end(), tokens_.begin() + static_cast<std::ptrdiff_t>(page) * page_tokens_);
}

PageId PrefixIndex::Find(ChainId parent, std::span<const TokenId> tokens, ChainId& chain) const {
  MK_CHECK(tokens.size() == static_cast<std::size_t>(page_tokens_));
  const auto it = by_hash_.find(Hash(parent, tokens));
  if (it == by_hash_.end() || !Matches(it->second, parent, tokens)) return layout::kNoPage;
  chain = entries_[it->second].id;
  return it->second;
}

ChainId PrefixIndex::Insert(ChainId parent, std::span<const TokenId> tokens, PageId page) {
  MK_CHECK(tokens.size() == static_cast<std::size_t>(page_tokens_) && !Contains(page));
  if (!Alive(parent)) return kNoChain;
  const std::uint64_t hash = Hash(parent, tokens);
  const auto [it, inserted] = by_hash_.try_emplace(hash, page);
  if (!inserted) return Matches(it->second, parent, tokens) ? entries_[it->second].id : kNoChain;
  entries_[page] = {.id = next_id_, .parent = parent, .hash = hash};
  live_.emplace(next_id_, page);
  std::copy(tokens.begin(), tokens.end(), tokens_.begin() + static_cast<std::ptrdiff_t>(page) * page_tokens_);
  return next_id_++;
}

void PrefixIndex::Remove(PageId page) {
  MK_CHECK(Contains(page));
  by_hash_.erase(entries_[page].hash);
  live_.erase(entries_[page].id);
  entries_[page] = Entry();
}

bool PrefixIndex::Reachable(PageId page) const {
  return Contains(page) && Alive(entries_[page].parent);
}

}  // namespace megakernel
