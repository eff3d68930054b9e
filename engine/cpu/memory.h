// Memory that the kernels stream: page-aligned, zero, in huge pages where the system gives them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"

namespace megakernel::cpu {

// Owns its mapping. Movable. The pages are reserved, not touched: what is never used costs nothing.
class Memory {
 public:
  Memory() = default;
  ~Memory();
  Memory(Memory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  // ResourceExhausted naming `what` and the bytes when the system refuses.
  static absl::StatusOr<Memory> Allocate(std::int64_t bytes, const char* what);

  std::byte* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

// A zeroed array in a Memory of its own, 64-byte aligned.
template <class T>
class Buffer {
 public:
  // `count` of at least 1.
  static absl::StatusOr<Buffer> Allocate(std::int64_t count, const char* what) {
    absl::StatusOr<Memory> memory = Memory::Allocate(count * static_cast<std::int64_t>(sizeof(T)), what);
    if (!memory.ok()) return memory.status();
    Buffer buffer;
    buffer.memory_ = *std::move(memory);
    return buffer;
  }
  T* data() const { return reinterpret_cast<T*>(memory_.data()); }

 private:
  Memory memory_;
};

}  // namespace megakernel::cpu
