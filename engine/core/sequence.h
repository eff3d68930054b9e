// The tokens of one sequence and the KV pages that hold their keys and values.
//
// Invariants: kv_length() <= max(0, length() - 1); between operations exactly the pages that hold [0, kv_length()) are
// referred to. Pages may be shared with other sequences and with the prefix index; only writable ones are ever given to
// the executor for writing (TakePages sees to it).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/core/kv_cache.h"
#include "engine/executor/executor.h"

namespace megakernel {

// Which pages an admission would use. Valid until the cache changes.
struct PagePlan {
  std::int32_t kv_length = 0;                    // leading positions that need not be computed
  std::int32_t new_pages = 0;                    // to allocate
  std::int32_t idle_hits = 0;                    // cached pages that come into use: they count against available() too
  std::vector<std::pair<PageId, ChainId>> hits;  // from the index, after the sequence's own published pages
};

// Engine thread only.
class Sequence {
 public:
  Sequence(KvCache* cache, const std::string& tenant);
  // The first `length` tokens of `parent`, on the same pages.
  Sequence(const Sequence& parent, std::int32_t length);
  ~Sequence();  // releases the pages
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  const std::vector<TokenId>& tokens() const { return tokens_; }
  std::int32_t length() const { return static_cast<std::int32_t>(tokens_.size()); }
  std::int32_t kv_length() const { return kv_length_; }
  const std::vector<PageId>& pages() const { return pages_; }
  // Positions that the pages hold.
  std::int32_t capacity() const { return static_cast<std::int32_t>(pages_.size()) * cache_->page_tokens(); }

  void Append(TokenId token) { tokens_.push_back(token); }
  void Append(std::span<const TokenId> tokens) { tokens_.insert(tokens_.end(), tokens.begin(), tokens.end()); }
  // Forgets every token from `length` on, and their keys and values. REQUIRES: length <= length(), no lane runs it.
  void Truncate(std::int32_t length);
  // Forgets keys and values, keeps the tokens: what the index still has when it runs again is found again.
  void DropPages();

  // What it takes to run it with room for `capacity` positions. `share_prefix`: use pages of the index.
  // REQUIRES: capacity > kv_length().
  PagePlan PlanPages(std::int32_t capacity, bool share_prefix) const;
  // Carries the plan out: afterwards kv_length() is the plan's and every position from there to `capacity` may be
  // written. Returns the copy that the executor must make first, if any.
  // REQUIRES: cache->available() >= plan.new_pages + plan.idle_hits.
  std::optional<CopyPage> TakePages(const PagePlan& plan, std::int32_t capacity);
  // `count` more pages at the end; returns them. REQUIRES: cache->available() >= count.
  std::vector<PageId> Grow(std::int32_t count);

  // While a lane runs it: positions [0, kv_length) are written for good. Publishes pages that became full.
  // REQUIRES: kv_length <= capacity().
  void SetWritten(std::int32_t kv_length);
  // Positions [0, kv_length) hold what was written from outside; never found by others. No lane runs it.
  // REQUIRES: kv_length <= capacity(), kv_length < length().
  void Adopt(std::int32_t kv_length);
  // The lane is done: the same, and gives back the pages that hold nothing.
  void Settle(std::int32_t kv_length);

 private:
  void ReleaseFrom(std::size_t first_page);
  std::optional<CopyPage> MakeWritable(std::int32_t page_idx, std::int32_t new_pages);
  void Publish();

  KvCache* const cache_;
  const ChainId root_;
  std::vector<TokenId> tokens_;
  std::int32_t kv_length_ = 0;
  std::vector<PageId> pages_;
  std::vector<ChainId> chains_;  // index entries of the leading full pages
  bool chain_broken_ = false;    // a page could not be published: none after it can
};

}  // namespace megakernel
