// A bounds-checked reader of little-endian bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace megakernel {

// Reads forward over bytes that it does not own. A read past the end fails and leaves the position where it was.
class ByteCursor {
 public:
  explicit ByteCursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::size_t position() const { return position_; }
  std::size_t remaining() const { return bytes_.size() - position_; }
  const std::byte* here() const { return bytes_.data() + position_; }

  template <class T>
  [[nodiscard]] bool Read(T& value) {
    if (remaining() < sizeof(T)) return false;
    std::memcpy(&value, here(), sizeof(T));
    position_ += sizeof(T);
    return true;
  }

  [[nodiscard]] bool Skip(std::uint64_t count) {
    if (remaining() < count) return false;
    position_ += static_cast<std::size_t>(count);
    return true;
  }

  // A 64-bit length, then that many bytes.
  [[nodiscard]] bool ReadString(std::string_view& text) {
    const std::size_t start = position_;
    std::uint64_t length = 0;
    if (!Read(length)) return false;
    const auto* data = reinterpret_cast<const char*>(here());
    if (!Skip(length)) {
      position_ = start;
      return false;
    }
    text = std::string_view(data, static_cast<std::size_t>(length));
    return true;
  }

 private:
  std::span<const std::byte> bytes_;
  std::size_t position_ = 0;
};

}  // namespace megakernel
