// Exact values of every decoded tensor type, against PyPI gguf (goldens by tests/reference/dequantize_goldens.py).
#include "engine/model/tensor_type.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/model/half.h"

namespace megakernel {
namespace {

std::vector<std::byte> FromHex(const std::string& hex) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

constexpr TensorType kDecoded[] = {TensorType::kF32,    TensorType::kF16,  TensorType::kBF16, TensorType::kQ8_0,
                                   TensorType::kQ4_0,   TensorType::kQ4_1, TensorType::kQ5_0, TensorType::kQ5_1,
                                   TensorType::kIQ4_NL, TensorType::kQ4_K, TensorType::kQ5_K, TensorType::kQ6_K};

TEST(TensorTypeTest, ValuesAreTheReferencesBitForBit) {
  std::ifstream file(MEGAKERNEL_MODEL_GOLDENS "/dequantize.json");
  const nlohmann::json goldens = nlohmann::json::parse(file);
  for (const TensorType type : kDecoded) {
    const auto& golden = goldens.at(TensorTypeName(type));
    const std::vector<std::byte> bytes = FromHex(golden.at("bytes").get<std::string>());
    const auto expected = golden.at("float_bits").get<std::vector<std::uint32_t>>();
    // Two rows, so that the second one's address is tested as well.
    const TensorView tensor = {"t", type, 2, static_cast<std::int64_t>(expected.size() / 2), bytes.data()};
    ASSERT_EQ(static_cast<std::size_t>(tensor.Bytes()), bytes.size()) << TensorTypeName(type);
    std::vector<float> values(expected.size());
    DequantizeRow(tensor, 0, values.data());
    DequantizeRow(tensor, 1, values.data() + tensor.cols);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(values[i]), expected[i]) << TensorTypeName(type) << " " << i;
    }
  }
}

// By the definition of binary16: sign, 5 bits of exponent, 10 of mantissa.
TEST(TensorTypeTest, EveryHalf) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const int mantissa = static_cast<int>(bits & 1023);
    const float value = HalfToFloat(static_cast<std::uint16_t>(bits));
    EXPECT_EQ(std::signbit(value), (bits >> 15) == 1);
    if (exponent == 31) {
      ASSERT_EQ(std::isnan(value), mantissa != 0);
      ASSERT_EQ(std::isinf(value), mantissa == 0);
      continue;
    }
    const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    ASSERT_EQ(std::abs(static_cast<double>(value)), magnitude) << bits;
  }
}

TEST(TensorTypeTest, FindsTheRowThatIsNotFinite) {
  for (const TensorType type : kDecoded) {
    const std::int64_t cols = 2 * BlockElements(type);
    TensorView tensor = {"t", type, 5, cols, nullptr};
    std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.Bytes()), std::byte{0});
    tensor.data = bytes.data();
    EXPECT_EQ(FirstRowNotFinite(tensor), -1) << TensorTypeName(type);
    // The second block of row 3: an infinite scale, or value.
    std::byte* block = bytes.data() + 3 * tensor.RowBytes() + BlockBytes(type);
    if (type == TensorType::kF32) {
      block[2] = std::byte{0x80};
      block[3] = std::byte{0x7f};
    } else if (type == TensorType::kBF16) {
      block[0] = std::byte{0x80};
      block[1] = std::byte{0x7f};
    } else if (type == TensorType::kQ6_K) {
      block[209] = std::byte{0x7c};
    } else {
      block[1] = std::byte{0x7c};
    }
    EXPECT_EQ(FirstRowNotFinite(tensor), 3) << TensorTypeName(type);
  }
}

// The minimum of Q4_1 and Q5_1 is a scale too; a code that looks like infinity is not.
TEST(TensorTypeTest, MinimaAreCheckedAndCodesAreNot) {
  for (const TensorType type : {TensorType::kQ4_1, TensorType::kQ5_1, TensorType::kQ8_0, TensorType::kQ4_0,
                                TensorType::kIQ4_NL, TensorType::kQ4_K, TensorType::kQ5_K}) {
    std::vector<std::byte> block(static_cast<std::size_t>(BlockBytes(type)), std::byte{0});
    const TensorView tensor = {"t", type, 1, BlockElements(type), block.data()};
    for (std::size_t i = 4; i < block.size(); ++i) block[i] = std::byte{0x7f};
    EXPECT_EQ(FirstRowNotFinite(tensor), -1) << TensorTypeName(type);
    block[3] = std::byte{0x7e};  // NaN, where there is a minimum
    const bool has_minimum = type == TensorType::kQ4_1 || type == TensorType::kQ5_1 || type == TensorType::kQ4_K ||
                             type == TensorType::kQ5_K;
    EXPECT_EQ(FirstRowNotFinite(tensor), has_minimum ? 0 : -1) << TensorTypeName(type);
  }
}

}  // namespace
}  // namespace megakernel
