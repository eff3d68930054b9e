// The fake executor's KV memory: one hash for each position of each page, and who refers to which page.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/executor/executor.h"

namespace megakernel {

// Not thread-safe.
class FakePages {
 public:
  // What a slot holds before it is written: no prefix hashes to it in practice.
  static constexpr std::uint64_t kPoison = 0xDEADDEADDEADDEADull;

  FakePages(std::int32_t num_pages, std::int32_t page_tokens);

  bool Has(PageId page) const { return page >= 0 && page < static_cast<PageId>(references_.size()); }
  // A lane's page table got, or lost, one entry for `page`. REQUIRES: Has(page).
  void Hold(PageId page) { ++references_[page]; }
  void Release(PageId page) { --references_[page]; }

  // Slots by the position in a lane that holds `table`. REQUIRES: the table reaches that far.
  std::uint64_t Read(const std::vector<PageId>& table, std::int32_t position) const;
  void Write(const std::vector<PageId>& table, std::int32_t position, std::uint64_t hash);
  // REQUIRES: Has(source) && Has(target).
  void Copy(PageId source, PageId target);

  // A page's slots as bytes. REQUIRES: Has(page).
  std::span<const std::byte> Bytes(PageId page) const;
  // REQUIRES: Has(page), as many bytes as a page has.
  void Overwrite(PageId page, std::span<const std::byte> bytes);

  // Changes when a write reached a page table entry other than the writer's own. While it rests, whatever a lane has
  // found in its pages is still there.
  std::uint64_t num_intrusions() const { return num_intrusions_; }

 private:
  std::size_t SlotIndex(const std::vector<PageId>& table, std::int32_t position) const;

  const std::int32_t page_tokens_;
  std::vector<std::uint64_t> slots_;      // [num_pages, page_tokens]
  std::vector<std::int32_t> references_;  // by page: entries of all page tables
  std::uint64_t num_intrusions_ = 0;
};

}  // namespace megakernel
