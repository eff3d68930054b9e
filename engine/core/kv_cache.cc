#include "engine/core/kv_cache.h"

#include "engine/base/check.h"

namespace megakernel {

KvCache::KvCache(std::int32_t num_pages, std::int32_t page_tokens, bool sharing, bool across_tenants)
    : page_tokens_(page_tokens),
      sharing_(sharing),
      across_tenants_(across_tenants),
      pages_(num_pages + 1),
      index_(num_pages, page_tokens) {
  pages_.back() = {.refs = 0, .previous = num_pages, .next = num_pages};
  free_.reserve(num_pages);
  for (PageId page = num_pages - 1; page >= 0; --page) free_.push_back(page);
}

void KvCache::AppendCached(PageId page) {
  const std::int32_t head = num_pages();
  const std::int32_t last = pages_[head].previous;
  pages_[page].previous = last;
  pages_[page].next = head;
  pages_[last].next = page;
  pages_[head].previous = page;
  ++num_cached_;
}

void KvCache::UnlinkCached(PageId page) {
  pages_[pages_[page].previous].next = pages_[page].next;
  pages_[pages_[page].next].previous = pages_[page].previous;
  --num_cached_;
}

PageId KvCache::Allocate() {
  MK_CHECK(available() > 0);
  PageId page;
  if (!free_.empty()) {
    page = free_.back();
    free_.pop_back();
  } else {
    page = pages_[num_pages()].next;
    UnlinkCached(page);
    index_.Remove(page);
  }
  pages_[page].refs = 1;
  ++num_used_;
  return page;
}

void KvCache::Retain(PageId page) {
  if (pages_[page].refs == 0) {
    MK_CHECK(published(page));
    UnlinkCached(page);
    ++num_used_;
  }
  ++pages_[page].refs;
}

void KvCache::Release(PageId page) {
  MK_CHECK(pages_[page].refs > 0);
  ++version_;
  if (--pages_[page].refs > 0) return;
  --num_used_;
  if (index_.Reachable(page)) {
    AppendCached(page);
    return;
  }
  if (published(page)) index_.Remove(page);
  free_.push_back(page);
}

ChainId KvCache::Publish(ChainId parent, std::span<const TokenId> tokens, PageId page) {
  MK_CHECK(pages_[page].refs > 0);
  if (!sharing_) return kNoChain;
  ++version_;
  return index_.Insert(parent, tokens, page);
}

void KvCache::Unpublish(PageId page) {
  MK_CHECK(pages_[page].refs == 1);
  index_.Remove(page);
}

}  // namespace megakernel
