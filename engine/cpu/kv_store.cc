#include "engine/cpu/kv_store.h"

#include <cstring>

#include "engine/base/status_macros.h"

namespace megakernel::cpu {

absl::StatusOr<KvStore> KvStore::Create(const layout::KvGeometry& geometry, std::int32_t num_pages) {
  KvStore store;
  store.geometry_ = geometry;
  MK_ASSIGN_OR_RETURN(store.memory_, Memory::Allocate(num_pages * geometry.PageBytes(), "KV pages"));
  return store;
}

KvPlanes KvStore::Planes(std::int32_t layer, std::int32_t kv_head, const PageId* pages) const {
  KvPlanes planes;
  planes.pool = memory_.data();
  planes.page_bytes = geometry_.PageBytes();
  planes.key_offset = geometry_.Offset(layer, false, kv_head, 0) * geometry_.element_bytes;
  planes.value_offset = geometry_.Offset(layer, true, kv_head, 0) * geometry_.element_bytes;
  planes.pages = pages;
  planes.page_tokens = geometry_.page_tokens;
  planes.head_dim = geometry_.head_dim;
  planes.half = geometry_.element_bytes == 2;
  return planes;
}

void KvStore::CopyPage(PageId source, PageId target) {
  std::memcpy(Page(target).data(), Page(source).data(), static_cast<std::size_t>(geometry_.PageBytes()));
}

std::span<std::byte> KvStore::Page(PageId page) {
  const std::int64_t bytes = geometry_.PageBytes();
  return {memory_.data() + page * bytes, static_cast<std::size_t>(bytes)};
}

void KvStore::Poison(std::span<const PageId> pages, std::int32_t first_position) {
  const std::int32_t tokens = geometry_.page_tokens;
  for (std::size_t i = static_cast<std::size_t>(first_position / tokens); i < pages.size(); ++i) {
    PoisonSlots(pages[i], static_cast<std::int32_t>(i) == first_position / tokens ? first_position % tokens : 0);
  }
}

void KvStore::PoisonSlots(PageId page, std::int32_t first_slot) {
  // All bits set are NaN in fp16 and fp32.
  const std::int32_t tokens = geometry_.page_tokens;
  const std::int32_t dim = geometry_.head_dim;
  const std::size_t bytes = static_cast<std::size_t>(geometry_.element_bytes);
  const PageId pages[1] = {page};
  for (std::int32_t layer = 0; layer < geometry_.num_layers; ++layer) {
    for (std::int32_t head = 0; head < geometry_.num_kv_heads; ++head) {
      const KvPlanes planes = Planes(layer, head, pages);
      std::byte* start = planes.pool + page * planes.page_bytes;
      std::byte* keys = start + planes.key_offset;
      for (std::int32_t d = 0; d < dim; ++d) {
        std::memset(keys + (d * tokens + first_slot) * bytes, 0xFF, (tokens - first_slot) * bytes);
      }
      std::memset(start + planes.value_offset + first_slot * dim * bytes, 0xFF, (tokens - first_slot) * dim * bytes);
    }
  }
}

}  // namespace megakernel::cpu
