#include "engine/cpu/memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/cpu/packed_matrix.h"

namespace megakernel::cpu {
namespace {

constexpr std::int64_t kHugePage = std::int64_t{2} << 20;
constexpr std::int64_t kSmallPage = 4096;

}  // namespace

Memory::~Memory() {
  if (data_ != nullptr) munmap(data_, static_cast<std::size_t>(bytes_));
}

absl::StatusOr<Memory> Memory::Allocate(std::int64_t bytes, const char* what) {
  Memory memory;
  const std::int64_t page = bytes >= kHugePage ? kHugePage : kSmallPage;
  // One page more than asked for, so that an aligned range of the wanted size lies inside.
  const std::int64_t wanted = RoundUp(bytes < 1 ? 1 : bytes, page);
  void* data = mmap(nullptr, static_cast<std::size_t>(wanted + page), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot get ", bytes, " bytes of memory for ", what, ": ", std::strerror(errno)));
  }
  const auto start = reinterpret_cast<std::uintptr_t>(data);
  const std::uintptr_t aligned = static_cast<std::uintptr_t>(RoundUp(static_cast<std::int64_t>(start), page));
  const std::size_t before = aligned - start;
  const std::size_t after = static_cast<std::size_t>(page) - before;
  if (before != 0) munmap(data, before);
  if (after != 0) munmap(reinterpret_cast<void*>(aligned + static_cast<std::uintptr_t>(wanted)), after);
  memory.data_ = reinterpret_cast<std::byte*>(aligned);
  memory.bytes_ = wanted;
  // Only a wish: with small pages everything works, about 15 % slower.
  if (page == kHugePage) madvise(memory.data_, static_cast<std::size_t>(wanted), MADV_HUGEPAGE);
  return memory;
}

}  // namespace megakernel::cpu
