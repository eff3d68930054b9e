// Which KV pages are free, in use, or kept because their content may be wanted again.
//
// Holds page ids only; the memory belongs to the executor. A page is free, used (one or more sequences refer to it) or
// cached (nobody does, but its content is in the prefix index): Allocate takes free pages first, then the cached page
// that was released longest ago.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/core/prefix_index.h"
#include "engine/executor/executor.h"

namespace megakernel {

// Engine thread only. Allocates at construction, and per new tenant.
class KvCache {
 public:
  // Without `sharing` nothing is ever published; with `across_tenants` all tenants share.
  KvCache(std::int32_t num_pages, std::int32_t page_tokens, bool sharing, bool across_tenants = false);

  std::int32_t page_tokens() const { return page_tokens_; }
  std::int32_t num_pages() const { return static_cast<std::int32_t>(pages_.size()) - 1; }
  std::int32_t num_used() const { return num_used_; }
  std::int32_t num_cached() const { return num_cached_; }
  std::int32_t num_free() const { return num_pages() - num_used_ - num_cached_; }
  // What Allocate can give.
  std::int32_t available() const { return num_pages() - num_used_; }
  // Changes whenever more may be available, or found, than before.
  std::uint64_t version() const { return version_; }

  // A page with one reference and no content. REQUIRES: available() > 0.
  PageId Allocate();
  // One more reference, to a used or cached page.
  void Retain(PageId page);
  // One less. The last one makes the page cached when the index can still reach it, else free. Release the pages of a
  // sequence from last to first: then a prefix is given up from its end.
  void Release(PageId page);

  std::int32_t refs(PageId page) const { return pages_[page].refs; }
  bool published(PageId page) const { return index_.Contains(page); }
  // One reference, and nobody can find it: its holder may write.
  bool writable(PageId page) const { return refs(page) == 1 && !published(page); }

  // The index. `Find` does not retain. See PrefixIndex.
  ChainId Root(const std::string& tenant) { return index_.Root(across_tenants_ ? std::string() : tenant); }
  PageId Find(ChainId parent, std::span<const TokenId> tokens, ChainId& chain) const {
    return index_.Find(parent, tokens, chain);
  }
  // REQUIRES: `page` is used, and full. Returns kNoChain without sharing.
  ChainId Publish(ChainId parent, std::span<const TokenId> tokens, PageId page);
  // REQUIRES: refs(page) == 1, published(page).
  void Unpublish(PageId page);

 private:
  struct Page {
    std::int32_t refs = 0;
    std::int32_t previous = 0;  // neighbours in the list of cached pages
    std::int32_t next = 0;
  };
  void AppendCached(PageId page);
  void UnlinkCached(PageId page);

  const std::int32_t page_tokens_;
  const bool sharing_;
  const bool across_tenants_;
  std::vector<Page> pages_;  // by id; one more is the head of the list of cached pages, oldest release first
  std::vector<PageId> free_;
  std::int32_t num_used_ = 0;
  std::int32_t num_cached_ = 0;
  std::uint64_t version_ = 0;
  PrefixIndex index_;
};

}  // namespace megakernel
