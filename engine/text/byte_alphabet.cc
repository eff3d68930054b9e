#include "engine/text/byte_alphabet.h"

#include <array>

#include "engine/text/utf8.h"

namespace megakernel {
namespace {

constexpr std::uint32_t kShifted = 0x100;  // first stand-in
constexpr std::size_t kNumShifted = 68;    // bytes that are not printable in Latin-1

constexpr bool IsPrintable(std::uint32_t byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
}

constexpr std::array<std::uint8_t, kNumShifted> ShiftedBytes() {
  std::array<std::uint8_t, kNumShifted> bytes{};
  std::size_t count = 0;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    if (!IsPrintable(byte)) bytes[count++] = static_cast<std::uint8_t>(byte);
  }
  return bytes;
}

constexpr std::array<std::uint8_t, kNumShifted> kShiftedBytes = ShiftedBytes();

}  // namespace

std::string AlphabetCharacter(std::uint8_t byte) {
  std::uint32_t code_point = byte;
  for (std::uint32_t i = 0; i < kNumShifted; ++i) {
    if (kShiftedBytes[i] == byte) code_point = kShifted + i;
  }
  std::string character;
  AppendCodePoint(code_point, character);
  return character;
}

bool AppendAlphabetBytes(std::string_view token, std::string& bytes) {
  const std::size_t size = bytes.size();
  for (std::size_t i = 0; i < token.size();) {
    const CodePoint c = DecodeCodePoint(token, i);
    i += c.bytes;
    if (c.value < kShifted && IsPrintable(c.value)) {
      bytes += static_cast<char>(c.value);
    } else if (c.value >= kShifted && c.value < kShifted + kNumShifted) {
      bytes += static_cast<char>(kShiftedBytes[c.value - kShifted]);
    } else {
      bytes.resize(size);
      return false;
    }
  }
  return true;
}

}  // namespace megakernel
