#include "engine/executor/fake_pages.h"

#include <algorithm>
#include <cstring>

namespace megakernel {

FakePages::FakePages(std::int32_t num_pages, std::int32_t page_tokens)
    : page_tokens_(page_tokens),
      slots_(static_cast<std::size_t>(num_pages) * page_tokens, kPoison),
      references_(num_pages, 0) {}

std::size_t FakePages::SlotIndex(const std::vector<PageId>& table, std::int32_t position) const {
  const std::int64_t page = table[position / page_tokens_];
  return static_cast<std::size_t>(page * page_tokens_ + position % page_tokens_);
}

std::uint64_t FakePages::Read(const std::vector<PageId>& table, std::int32_t position) const {
  return slots_[SlotIndex(table, position)];
}

void FakePages::Write(const std::vector<PageId>& table, std::int32_t position, std::uint64_t hash) {
  num_intrusions_ += references_[table[position / page_tokens_]] > 1;
  slots_[SlotIndex(table, position)] = hash;
}

void FakePages::Copy(PageId source, PageId target) {
  num_intrusions_ += references_[target] > 0;
  const auto begin = slots_.begin() + std::int64_t{source} * page_tokens_;
  std::copy(begin, begin + page_tokens_, slots_.begin() + std::int64_t{target} * page_tokens_);
}

std::span<const std::byte> FakePages::Bytes(PageId page) const {
  return std::as_bytes(std::span(slots_).subspan(static_cast<std::size_t>(page) * page_tokens_, page_tokens_));
}

void FakePages::Overwrite(PageId page, std::span<const std::byte> bytes) {
  num_intrusions_ += references_[page] > 0;
  std::memcpy(&slots_[static_cast<std::size_t>(page) * page_tokens_], bytes.data(), bytes.size());
}

}  // namespace megakernel
