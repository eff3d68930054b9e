#include "engine/model/tensor_type.h"

#include <bit>
#include <cstring>
#include <iterator>

#include "engine/model/half.h"
#include "engine/model/k_quants.h"

namespace megakernel {
namespace {

// Blocks as the file holds them, little-endian. `scale_count` halves (scale, then minimum) stand at byte `scale_at`.
struct TypeFacts {
  TensorType type;
  const char* name;
  std::int32_t elements;
  std::int32_t bytes;
  std::int32_t scale_count;
  std::int32_t scale_at;
};

constexpr TypeFacts kFacts[] = {
    {TensorType::kF32, "F32", 1, 4, 0, 0},         {TensorType::kF16, "F16", 1, 2, 0, 0},
    {TensorType::kBF16, "BF16", 1, 2, 0, 0},       {TensorType::kQ8_0, "Q8_0", 32, 34, 1, 0},
    {TensorType::kQ4_0, "Q4_0", 32, 18, 1, 0},     {TensorType::kQ4_1, "Q4_1", 32, 20, 2, 0},
    {TensorType::kQ5_0, "Q5_0", 32, 22, 1, 0},     {TensorType::kQ5_1, "Q5_1", 32, 24, 2, 0},
    {TensorType::kIQ4_NL, "IQ4_NL", 32, 18, 1, 0}, {TensorType::kQ4_K, "Q4_K", 256, 144, 2, 0},
    {TensorType::kQ5_K, "Q5_K", 256, 176, 2, 0},   {TensorType::kQ6_K, "Q6_K", 256, 210, 1, kQ6ScaleAt},
};

constexpr const TypeFacts& Facts(TensorType type) {
  return kFacts[static_cast<std::size_t>(type)];
}

constexpr bool FactsAreInOrder() {
  for (std::size_t i = 0; i < std::size(kFacts); ++i) {
    if (kFacts[i].type != static_cast<TensorType>(i)) return false;
  }
  return true;
}
static_assert(FactsAreInOrder());

template <class T>
T Load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

float LoadHalf(const std::byte* from) {
  return HalfToFloat(Load<std::uint16_t>(from));
}

int Low(std::byte b) {
  return std::to_integer<int>(b & std::byte{0x0f});
}
int High(std::byte b) {
  return std::to_integer<int>(b >> 4);
}

// The formulas of ggml-quants.c: value = scale x (code - offset), or scale x code + minimum. Two fp32 operations, as
// there.
constexpr int kBlock = 32;

void DequantizeQ8_0(const std::byte* block, float* out) {
  const float scale = LoadHalf(block);
  for (int i = 0; i < kBlock; ++i) out[i] = scale * static_cast<float>(Load<std::int8_t>(block + 2 + i));
}

void DequantizeQ4_0(const std::byte* block, float* out) {
  const float scale = LoadHalf(block);
  for (int i = 0; i < kBlock / 2; ++i) {
    out[i] = scale * static_cast<float>(Low(block[2 + i]) - 8);
    out[i + kBlock / 2] = scale * static_cast<float>(High(block[2 + i]) - 8);
  }
}

void DequantizeQ4_1(const std::byte* block, float* out) {
  const float scale = LoadHalf(block);
  const float minimum = LoadHalf(block + 2);
  for (int i = 0; i < kBlock / 2; ++i) {
    out[i] = scale * static_cast<float>(Low(block[4 + i])) + minimum;
    out[i + kBlock / 2] = scale * static_cast<float>(High(block[4 + i])) + minimum;
  }
}

// Bit i of `high` is the fifth bit of element i.
int FifthBit(std::uint32_t high, int i) {
  return static_cast<int>((high >> i) & 1u) << 4;
}

void DequantizeQ5_0(const std::byte* block, float* out) {
  const float scale = LoadHalf(block);
  const auto high = Load<std::uint32_t>(block + 2);
  for (int i = 0; i < kBlock / 2; ++i) {
    out[i] = scale * static_cast<float>((Low(block[6 + i]) | FifthBit(high, i)) - 16);
    out[i + kBlock / 2] = scale * static_cast<float>((High(block[6 + i]) | FifthBit(high, i + kBlock / 2)) - 16);
  }
}

void DequantizeQ5_1(const std::byte* block, float* out) {
  const float scale = LoadHalf(block);
  const float minimum = LoadHalf(block + 2);
  const auto high = Load<std::uint32_t>(block + 4);
  for (int i = 0; i < kBlock / 2; ++i) {
    out[i] = scale * static_cast<float>(Low(block[8 + i]) | FifthBit(high, i)) + minimum;
    out[i + kBlock / 2] = scale * static_cast<float>(High(block[8 + i]) | FifthBit(high, i + kBlock / 2)) + minimum;
  }
}

void DequantizeIq4Nl(const std::byte* block, float* out) {
  const float scale = LoadHalf(block);
  for (int i = 0; i < kBlock / 2; ++i) {
    out[i] = scale * static_cast<float>(kIq4Values[Low(block[2 + i])]);
    out[i + kBlock / 2] = scale * static_cast<float>(kIq4Values[High(block[2 + i])]);
  }
}

bool HalfIsFinite(std::uint16_t half) {
  return (half & 0x7c00u) != 0x7c00u;
}

// Row-wise, so that the loops over plain types vectorise.
bool RowIsFinite(TensorType type, const std::byte* row, std::int64_t cols) {
  unsigned bad = 0;
  switch (type) {
    case TensorType::kF32:
      for (std::int64_t i = 0; i < cols; ++i) bad |= (Load<std::uint32_t>(row + 4 * i) & 0x7f800000u) == 0x7f800000u;
      return bad == 0;
    case TensorType::kF16:
      for (std::int64_t i = 0; i < cols; ++i) bad |= (Load<std::uint16_t>(row + 2 * i) & 0x7c00u) == 0x7c00u;
      return bad == 0;
    case TensorType::kBF16:
      for (std::int64_t i = 0; i < cols; ++i) bad |= (Load<std::uint16_t>(row + 2 * i) & 0x7f80u) == 0x7f80u;
      return bad == 0;
    default:
      break;
  }
  const TypeFacts& facts = Facts(type);
  for (std::int64_t block = 0; block < cols / facts.elements; ++block) {
    for (int scale = 0; scale < facts.scale_count; ++scale) {
      bad |= !HalfIsFinite(Load<std::uint16_t>(row + block * facts.bytes + facts.scale_at + 2 * scale));
    }
  }
  return bad == 0;
}

}  // namespace

static_assert(std::endian::native == std::endian::little, "the files are little-endian and are read in place");

const char* TensorTypeName(TensorType type) {
  return Facts(type).name;
}
std::int32_t BlockElements(TensorType type) {
  return Facts(type).elements;
}
std::int32_t BlockBytes(TensorType type) {
  return Facts(type).bytes;
}

bool AreFinite(TensorType type, const std::byte* data, std::int64_t count) {
  return RowIsFinite(type, data, count);
}

std::int64_t FirstRowNotFinite(const TensorView& tensor) {
  for (std::int64_t row = 0; row < tensor.rows; ++row) {
    if (!RowIsFinite(tensor.type, tensor.data + row * tensor.RowBytes(), tensor.cols)) return row;
  }
  return -1;
}

void DequantizeRow(const TensorView& tensor, std::int64_t row, float* out) {
  const std::byte* data = tensor.data + row * tensor.RowBytes();
  const auto blocks = [&](auto decode) {
    const TypeFacts& facts = Facts(tensor.type);
    for (std::int64_t i = 0; i < tensor.cols / facts.elements; ++i)
      decode(data + i * facts.bytes, out + i * facts.elements);
  };
  switch (tensor.type) {
    case TensorType::kF32:
      std::memcpy(out, data, static_cast<std::size_t>(tensor.cols) * sizeof(float));
      return;
    case TensorType::kF16:
      return blocks([](const std::byte* from, float* to) { *to = LoadHalf(from); });
    case TensorType::kBF16:
      return blocks([](const std::byte* from, float* to) { *to = BFloat16ToFloat(Load<std::uint16_t>(from)); });
    case TensorType::kQ8_0:
      return blocks(DequantizeQ8_0);
    case TensorType::kQ4_0:
      return blocks(DequantizeQ4_0);
    case TensorType::kQ4_1:
      return blocks(DequantizeQ4_1);
    case TensorType::kQ5_0:
      return blocks(DequantizeQ5_0);
    case TensorType::kQ5_1:
      return blocks(DequantizeQ5_1);
    case TensorType::kIQ4_NL:
      return blocks(DequantizeIq4Nl);
    case TensorType::kQ4_K:
      return blocks(DequantizeQ4K);
    case TensorType::kQ5_K:
      return blocks(DequantizeQ5K);
    case TensorType::kQ6_K:
      return blocks(DequantizeQ6K);
  }
}

}  // namespace megakernel
