// Safetensors files for tests, good and deliberately bad.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>

namespace megakernel::test {

// Length, header text and data as they are given; nothing is checked.
inline std::string SafetensorsBytes(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header + std::string(data_bytes, '\0');
}

inline void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file << bytes;
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace megakernel::test
