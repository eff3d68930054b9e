// Finds pages by what they hold: full pages of tokens, chained, so that an entry stands for a whole prefix.
//
// An entry is (parent entry, the tokens of one page) -> page. Entry ids are never used twice, and a hit is confirmed
// token by token against the parent's id, so two different prefixes can never be taken for each other, whatever their
// hashes. The root of each tenant is an entry of its own: tenants share nothing.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/executor/executor.h"

namespace megakernel {

// Id of an index entry; kNoChain: none.
using ChainId = std::uint64_t;
inline constexpr ChainId kNoChain = 0;

// Engine thread only. Allocates at construction, and per new tenant.
class PrefixIndex {
 public:
  PrefixIndex(std::int32_t num_pages, std::int32_t page_tokens);

  // What a tenant's first page is chained to. The same for equal names.
  ChainId Root(const std::string& tenant);

  // The page that holds `tokens` after `parent`; kNoPage when there is none. Sets `chain` to its entry.
  // REQUIRES: tokens.size() == page_tokens.
  PageId Find(ChainId parent, std::span<const TokenId> tokens, ChainId& chain) const;

  // Enters `page`. Returns its entry; that of the page already there when an equal one is; kNoChain, and enters
  // nothing, when the parent is gone or another prefix has the same hash. REQUIRES: tokens.size() == page_tokens,
  // `page` is not in the index.
  ChainId Insert(ChainId parent, std::span<const TokenId> tokens, PageId page);

  // REQUIRES: Contains(page). Entries chained to it can no longer be found.
  void Remove(PageId page);

  bool Contains(PageId page) const { return entries_[page].id != kNoChain; }
  // Whether Find can still reach the page: its chain of parents is there, as far as one step tells.
  bool Reachable(PageId page) const;

 private:
  struct Entry {
    ChainId id = kNoChain;
    ChainId parent = kNoChain;
    std::uint64_t hash = 0;
  };

  bool Alive(ChainId id) const { return live_.contains(id); }
  bool Matches(PageId page, ChainId parent, std::span<const TokenId> tokens) const;

  const std::int32_t page_tokens_;
  ChainId next_id_ = kNoChain + 1;
  std::vector<Entry> entries_;   // by page
  std::vector<TokenId> tokens_;  // [num_pages, page_tokens]
  absl::flat_hash_map<std::uint64_t, PageId> by_hash_;
  absl::flat_hash_map<ChainId, PageId> live_;  // roots have kNoPage
  absl::flat_hash_map<std::string, ChainId> roots_;
};

}  // namespace megakernel
