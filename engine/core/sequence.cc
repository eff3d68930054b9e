#include "engine/core/sequence.h"

#include <algorithm>

#include "engine/base/check.h"

namespace megakernel {

Sequence::Sequence(KvCache* cache, const std::string& tenant) : cache_(cache), root_(cache->Root(tenant)) {}

Sequence::~Sequence() {
  ReleaseFrom(0);
}

void Sequence::ReleaseFrom(std::size_t first_page) {
  while (pages_.size() > first_page) {
    cache_->Release(pages_.back());
    pages_.pop_back();
  }
  if (chains_.size() > first_page) {
    chains_.resize(first_page);
    chain_broken_ = false;
  }
}

void Sequence::Truncate(std::int32_t length) {
  MK_CHECK(length >= 0 && length <= this->length());
  tokens_.resize(length);
  Settle(std::min(kv_length_, std::max(0, length - 1)));
}

Sequence::Sequence(const Sequence& parent, std::int32_t length)
    : cache_(parent.cache_),
      root_(parent.root_),
      tokens_(parent.tokens_.begin(), parent.tokens_.begin() + length),
      kv_length_(std::min(parent.kv_length_, std::max(0, length - 1))),
      chain_broken_(parent.chain_broken_) {
  MK_CHECK(length >= 0 && length <= parent.length());
  const std::int32_t page_tokens = cache_->page_tokens();
  const std::int32_t num_pages = layout::PagesFor(kv_length_, page_tokens);
  pages_.assign(parent.pages_.begin(), parent.pages_.begin() + num_pages);
  for (const PageId page : pages_) cache_->Retain(page);
  const std::size_t full = std::min<std::size_t>(parent.chains_.size(), kv_length_ / page_tokens);
  chains_.assign(parent.chains_.begin(), parent.chains_.begin() + static_cast<std::ptrdiff_t>(full));
  if (full < parent.chains_.size()) chain_broken_ = false;
}

void Sequence::DropPages() {
  ReleaseFrom(0);
  kv_length_ = 0;
  chain_broken_ = false;
}

PagePlan Sequence::PlanPages(std::int32_t capacity, bool share_prefix) const {
  MK_CHECK(capacity > kv_length_);
  const std::size_t page_tokens = cache_->page_tokens();
  PagePlan plan;
  plan.kv_length = kv_length_;
  ChainId chain = chains_.empty() ? root_ : chains_.back();
  for (std::size_t page = chains_.size(); share_prefix && !chain_broken_; ++page) {
    if ((page + 1) * page_tokens > tokens_.size() - 1) break;
    const PageId hit = cache_->Find(chain, std::span(tokens_).subspan(page * page_tokens, page_tokens), chain);
    if (hit == layout::kNoPage) break;
    plan.hits.emplace_back(hit, chain);
    plan.idle_hits += cache_->refs(hit) == 0;
    plan.kv_length = static_cast<std::int32_t>((page + 1) * page_tokens);
  }
  const std::size_t kept = plan.hits.empty() ? pages_.size() : chains_.size() + plan.hits.size();
  plan.new_pages = std::max(0, layout::PagesFor(capacity, cache_->page_tokens()) - static_cast<std::int32_t>(kept));
  // The page that the next write goes to is copied if another sequence refers to it.
  const bool mid_page = plan.kv_length % cache_->page_tokens() != 0;
  if (mid_page && cache_->refs(pages_[plan.kv_length / page_tokens]) > 1) ++plan.new_pages;
  return plan;
}

std::optional<CopyPage> Sequence::TakePages(const PagePlan& plan, std::int32_t capacity) {
  MK_CHECK(cache_->available() >= plan.new_pages + plan.idle_hits);
  if (!plan.hits.empty()) {
    for (const auto& [page, chain] : plan.hits) cache_->Retain(page);  // before anything is released or allocated
    ReleaseFrom(chains_.size());
    for (const auto& [page, chain] : plan.hits) {
      pages_.push_back(page);
      chains_.push_back(chain);
    }
    kv_length_ = plan.kv_length;
  }
  std::optional<CopyPage> copy;
  if (kv_length_ % cache_->page_tokens() != 0) copy = MakeWritable(kv_length_ / cache_->page_tokens(), plan.new_pages);
  const std::int32_t missing =
      layout::PagesFor(capacity, cache_->page_tokens()) - static_cast<std::int32_t>(pages_.size());
  if (missing > 0) Grow(missing);
  return copy;
}

std::optional<CopyPage> Sequence::MakeWritable(std::int32_t page_idx, std::int32_t new_pages) {
  PageId& page = pages_[page_idx];
  if (cache_->writable(page)) return std::nullopt;
  // Only the index knows it besides us: a copy keeps it there, if a page can be spared for that.
  if (cache_->refs(page) == 1 && cache_->available() <= new_pages) {
    cache_->Unpublish(page);
    return std::nullopt;
  }
  const CopyPage copy{.source = page, .target = cache_->Allocate()};
  cache_->Release(page);
  page = copy.target;
  return copy;
}

std::vector<PageId> Sequence::Grow(std::int32_t count) {
  const std::size_t before = pages_.size();
  for (std::int32_t i = 0; i < count; ++i) pages_.push_back(cache_->Allocate());
  return std::vector<PageId>(pages_.begin() + static_cast<std::ptrdiff_t>(before), pages_.end());
}

void Sequence::SetWritten(std::int32_t kv_length) {
  MK_CHECK(kv_length <= capacity());
  kv_length_ = kv_length;
  Publish();
}

void Sequence::Adopt(std::int32_t kv_length) {
  MK_CHECK(kv_length <= capacity() && kv_length < length());
  kv_length_ = kv_length;
  chain_broken_ = true;
}

void Sequence::Settle(std::int32_t kv_length) {
  const std::int32_t page_tokens = cache_->page_tokens();
  kv_length_ = std::min(kv_length, std::max(0, length() - 1));
  ReleaseFrom(layout::PagesFor(kv_length_, page_tokens));
  if (chains_.size() > static_cast<std::size_t>(kv_length_ / page_tokens)) {
    chains_.resize(kv_length_ / page_tokens);
    chain_broken_ = false;
  }
  Publish();
}

void Sequence::Publish() {
  const std::size_t page_tokens = cache_->page_tokens();
  while (!chain_broken_ && (chains_.size() + 1) * page_tokens <= static_cast<std::size_t>(kv_length_)) {
    const std::size_t page = chains_.size();
    const ChainId parent = chains_.empty() ? root_ : chains_.back();
    const ChainId chain =
        cache_->published(pages_[page])
            ? kNoChain
            : cache_->Publish(parent, std::span(tokens_).subspan(page * page_tokens, page_tokens), pages_[page]);
    if (chain == kNoChain) {
      chain_broken_ = true;
    } else {
      chains_.push_back(chain);
    }
  }
}

}  // namespace megakernel
