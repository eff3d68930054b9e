#include "engine/model/k_quants.h"

#include <cstring>

#include "engine/model/half.h"

namespace megakernel {
namespace {

constexpr int kPart = 32;  // elements
constexpr int kScalesAt = 4;
constexpr int kScaleBytes = 12;
constexpr int kFifthBitBytes = 32;

int Byte(const std::byte* block, int at) {
  return std::to_integer<int>(block[at]);
}

float Half(const std::byte* from) {
  std::uint16_t bits;
  std::memcpy(&bits, from, sizeof(bits));
  return HalfToFloat(bits);
}

// The 6-bit numbers of a part: four of each in the low bits of eight bytes; the other four in nibbles of the last four
// bytes and the two high bits of the first eight.
void PartScales(const std::byte* scales, int part, int& scale, int& minimum) {
  if (part < 4) {
    scale = Byte(scales, part) & 63;
    minimum = Byte(scales, part + 4) & 63;
  } else {
    scale = (Byte(scales, part + 4) & 15) | (Byte(scales, part - 4) >> 6) << 4;
    minimum = Byte(scales, part + 4) >> 4 | (Byte(scales, part) >> 6) << 4;
  }
}

BlockPart ReadPart(const std::byte* block, int part, int codes_at, bool fifth_bits) {
  int scale = 0, minimum = 0;
  PartScales(block + kScalesAt, part, scale, minimum);
  BlockPart out;
  out.scale = Half(block) * static_cast<float>(scale);
  out.minimum = -(Half(block + 2) * static_cast<float>(minimum));
  // Two parts share 32 bytes: the even one has the low nibbles.
  const std::byte* codes = block + codes_at + part / 2 * kPart;
  for (int i = 0; i < kPart; ++i) {
    int code = part % 2 == 0 ? Byte(codes, i) & 15 : Byte(codes, i) >> 4;
    if (fifth_bits) code |= (Byte(block, kScalesAt + kScaleBytes + i) >> part & 1) << 4;
    out.codes[i] = static_cast<std::uint8_t>(code);
  }
  return out;
}

template <BlockPart (*kRead)(const std::byte*, int)>
void Dequantize(const std::byte* block, float* out) {
  for (int part = 0; part < kFineParts; ++part) {
    const BlockPart p = kRead(block, part);
    for (int i = 0; i < kPart; ++i) out[part * kPart + i] = p.scale * static_cast<float>(p.codes[i]) + p.minimum;
  }
}

}  // namespace

BlockPart ReadQ4KPart(const std::byte* block, int part) {
  return ReadPart(block, part, kScalesAt + kScaleBytes, false);
}

BlockPart ReadQ5KPart(const std::byte* block, int part) {
  return ReadPart(block, part, kScalesAt + kScaleBytes + kFifthBitBytes, true);
}

void ReadQ6K(const std::byte* block, Q6Block& out) {
  constexpr int kHighAt = 128, kQ6PartScalesAt = 192;
  const float d = Half(block + kQ6ScaleAt);
  for (int part = 0; part < kFinestParts; ++part) {
    const auto scale = static_cast<std::int8_t>(Byte(block, kQ6PartScalesAt + part));
    out.scales[part] = d * static_cast<float>(scale);
  }
  // Halves of 128 elements: four groups of 32 share 64 low bytes and 32 high bytes of four 2-bit fields.
  for (int i = 0; i < kSuperBlock; ++i) {
    const int half = i / 128, group = i % 128 / 32, lane = i % 32;
    const int low = Byte(block, half * 64 + group % 2 * 32 + lane);
    const int four = group < 2 ? low & 15 : low >> 4;
    const int two = Byte(block, kHighAt + half * 32 + lane) >> (2 * group) & 3;
    out.codes[i] = static_cast<std::int8_t>((four | two << 4) - 32);
  }
}

void DequantizeQ4K(const std::byte* block, float* out) {
  Dequantize<ReadQ4KPart>(block, out);
}

void DequantizeQ5K(const std::byte* block, float* out) {
  Dequantize<ReadQ5KPart>(block, out);
}

void DequantizeQ6K(const std::byte* block, float* out) {
  Q6Block b;
  ReadQ6K(block, b);
  for (int i = 0; i < kSuperBlock; ++i) out[i] = b.scales[i / 16] * static_cast<float>(b.codes[i]);
}

}  // namespace megakernel
