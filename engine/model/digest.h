// A fast 128-bit fingerprint of bytes, to tell model files apart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace megakernel {

// Equal bytes in equal Add calls give equal digests. Any change confined to one 8-byte word always changes it; other
// changes are missed with a chance of about 2^-64. Not cryptographic: it finds a different file, not a forged one.
// Eight independent multiply chains, so that it runs at memory speed.
class Digest {
 public:
  void Add(std::span<const std::byte> bytes);
  // 32 lower-case hexadecimal digits.
  std::string Hex() const;

 private:
  static constexpr int kLanes = 8;
  std::uint64_t lanes_[kLanes] = {0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89,
                                  0x452821e638d01377, 0xbe5466cf34e90c6c, 0xc0ac29b7c97c50dd, 0x3f84d5b5b5470917};
};

}  // namespace megakernel
