#include "engine/text/nfc.h"

#include <gtest/gtest.h>

#include <chrono>

#include "absl/strings/str_format.h"
#include "engine/text/utf8.h"
#include "tests/engine/text/corpus.h"
#include "tests/engine/text/goldens.h"

namespace megakernel {
namespace {

constexpr std::uint32_t kBlock = 0x1000;

// As block_text of tests/reference/nfc_goldens.py.
std::string BlockText(std::uint32_t first) {
  std::string text;
  for (std::uint32_t value = first; value < first + kBlock; ++value) {
    std::string c;
    if (!AppendCodePoint(value, c)) continue;
    text += "a" + c + "\u0301\u0323" + c + "\u0327 \u1100" + c + c + "\u11a8\u0f71" + c + "\u0338" + c +
            "\u0300 \u00c5\u0323" + c;
  }
  return text;
}

TEST(NfcTest, EveryCharacterAmongMarks) {
  const nlohmann::json goldens = ReadGoldens("nfc.json");
  ASSERT_EQ(goldens.size(), 0x30u);
  for (std::uint32_t i = 0; i < goldens.size(); ++i) {
    const std::string normal = NormalizeNfc(BlockText(i * kBlock));
    EXPECT_EQ(absl::StrFormat("%016x", Fnv(normal)), goldens[i]) << "characters from " << std::hex << i * kBlock;
    EXPECT_EQ(NormalizeNfc(normal), normal) << "from " << std::hex << i * kBlock;
  }
}

TEST(NfcTest, ComposesDecomposesAndReorders) {
  EXPECT_EQ(NormalizeNfc("e\u0301"), "\u00e9");
  EXPECT_EQ(NormalizeNfc("\u212b"), "\u00c5");
  EXPECT_EQ(NormalizeNfc("s\u0307\u0323"), "\u1e69");
  EXPECT_EQ(NormalizeNfc("\u1112\u1161\u11ab"), "\ud55c");
  EXPECT_EQ(NormalizeNfc("\u0958"), "\u0915\u093c") << "an excluded composition stays apart";
  EXPECT_EQ(NormalizeNfc(""), "");
}

TEST(NfcTest, MalformedBytesStayAndCombineWithNothing) {
  EXPECT_EQ(NormalizeNfc("e\xff\u0301"), "e\xff\u0301");
  EXPECT_EQ(NormalizeNfc("\xed\xa0\x80"), "\xed\xa0\x80");
  EXPECT_EQ(NormalizeNfc("e\u0301\xcc"), "\u00e9\xcc");
}

TEST(NfcTest, WhatIsSurelyNormalIs) {
  EXPECT_TRUE(IsSurelyNfc("plain text \u00e9 \u4e2d \U0001f600"));
  EXPECT_FALSE(IsSurelyNfc("e\u0301"));
  EXPECT_FALSE(IsSurelyNfc("\u212b"));
  EXPECT_FALSE(IsSurelyNfc("\u1100\u1161"));
  for (std::uint32_t value = 0; value < 0x110000; ++value) {
    std::string c;
    if (AppendCodePoint(value, c) && IsSurelyNfc(c)) {
      ASSERT_EQ(NormalizeNfc(c), c) << std::hex << value;
      ASSERT_EQ(NormalizeNfc("a" + c + "b"), "a" + c + "b") << std::hex << value;
    }
  }
}

// Marks in descending order of their classes: a sort that moves one at a time would need 10^11 steps.
TEST(NfcTest, LongRunsOfMarksTakeLittleTime) {
  std::string text = "a";
  for (int i = 0; i < 250'000; ++i) text += "\u0301";
  for (int i = 0; i < 250'000; ++i) text += "\u0323";
  const auto begin = std::chrono::steady_clock::now();
  const std::string normal = NormalizeNfc(text);
  EXPECT_EQ(normal.substr(0, 5), "\u1ea1\u0323");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

}  // namespace
}  // namespace megakernel
