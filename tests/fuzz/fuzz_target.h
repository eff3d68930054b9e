// What a fuzz target defines: reads the bytes as an untrusted file and does what a server would do with it. It must
// return 0, and not crash, hang or leak, whatever the bytes are. The fuzzer calls it, and replay_main.cc for whole
// corpora.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace megakernel::test {

inline std::string_view AsText(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}
inline std::span<const std::byte> AsBytes(const std::uint8_t* data, std::size_t size) {
  return std::as_bytes(std::span(data, size));
}

}  // namespace megakernel::test
