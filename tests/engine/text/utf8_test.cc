#include "engine/text/utf8.h"

#include <gtest/gtest.h>

#include <map>

namespace megakernel {
namespace {

// Expected text: Python's bytes.decode("utf-8", "replace").
TEST(Utf8Test, MalformedBytesBecomeOneReplacementForEachMaximalPart) {
  const std::string r(kReplacementCharacter);
  const std::map<std::string, std::string> cases = {
      {"plain", "plain"},
      {"\x80", r},
      {"\xC0\x80", r + r},                  // overlong
      {"\xE0\x9F\x80", r + r + r},          // overlong
      {"\xED\xA0\x80", r + r + r},          // surrogate
      {"\xF4\x90\x80\x80", r + r + r + r},  // above U+10FFFF
      {"\xF5", r},
      {"\xE2\x82", r},
      {"\xE2\x82x", r + "x"},
      {"\xF0\x9F\x98\xC3\xA9", r + "\xC3\xA9"},
      {"a\xC3", "a" + r},
      {"\xED\x9F\xBF\xEE\x80\x80", "\xED\x9F\xBF\xEE\x80\x80"},
  };
  for (const auto& [bytes, text] : cases) EXPECT_EQ(ToValidUtf8(bytes), text) << testing::PrintToString(bytes);
}

TEST(Utf8Test, EveryCodePointSurvives) {
  for (std::uint32_t c = 0; c < 0x110000; ++c) {
    std::string text;
    const bool is_surrogate = c >= 0xd800 && c < 0xe000;
    ASSERT_EQ(AppendCodePoint(c, text), !is_surrogate);
    if (is_surrogate) continue;
    const CodePoint decoded = DecodeCodePoint(text, 0);
    ASSERT_EQ(decoded.value, c);
    ASSERT_EQ(decoded.bytes, text.size());
    ASSERT_EQ(ToValidUtf8(text), text);
  }
  std::string text;
  EXPECT_FALSE(AppendCodePoint(0x110000, text));
}

TEST(Utf8Test, TruncatedCharactersAreInvalidAndOneByte) {
  for (const std::string text : {"\xC3", "\xE2\x82", "\xF0\x9F\x98", "\xFF", "\x80"}) {
    EXPECT_EQ(DecodeCodePoint(text, 0).value, CodePoint::kInvalid);
    EXPECT_EQ(DecodeCodePoint(text, 0).bytes, 1u);
  }
}

TEST(Utf8Test, Classes) {
  EXPECT_EQ(ClassOf('a'), CharClass::kLetter);
  EXPECT_EQ(ClassOf(0x4e2d), CharClass::kLetter);
  EXPECT_EQ(ClassOf('7'), CharClass::kNumber);
  EXPECT_EQ(ClassOf(0xbd), CharClass::kNumber);  // one half
  EXPECT_EQ(ClassOf(0x3000), CharClass::kSpace);
  EXPECT_EQ(ClassOf(0x200b), CharClass::kOther);  // zero-width space is no White_Space
  EXPECT_EQ(ClassOf(0x301), CharClass::kOther);   // combining acute
  EXPECT_EQ(ClassOf(CodePoint::kInvalid), CharClass::kOther);
}

}  // namespace
}  // namespace megakernel
