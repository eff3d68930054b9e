#include "engine/text/utf8.h"

#include <algorithm>
#include <vector>

#include "engine/text/unicode_ranges.h"

namespace megakernel {
namespace {

constexpr std::uint32_t kNumCodePoints = 0x110000;

// One byte per character, filled once from the ranges: a lookup is one load.
std::vector<CharClass> MakeClasses() {
  std::vector<CharClass> classes(kNumCodePoints, CharClass::kOther);
  const auto fill = [&classes](std::span<const CodePointRange> ranges, CharClass value) {
    for (const CodePointRange& range : ranges) {
      for (std::uint32_t c = range.first; c <= range.last; ++c) classes[c] = value;
    }
  };
  static constexpr CodePointRange kSpaces[] = {{0x9, 0xd},       {0x20, 0x20},     {0x85, 0x85},     {0xa0, 0xa0},
                                               {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f},
                                               {0x205f, 0x205f}, {0x3000, 0x3000}};
  fill(LetterRanges(), CharClass::kLetter);
  fill(NumberRanges(), CharClass::kNumber);
  fill(kSpaces, CharClass::kSpace);
  return classes;
}

// Length of the character that `lead` begins; 0 when it begins none.
int LengthFrom(std::uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xc2) return 0;
  if (lead < 0xe0) return 2;
  if (lead < 0xf0) return 3;
  return lead < 0xf5 ? 4 : 0;
}

// Whether `second` may follow `lead`: excludes overlong forms, surrogates and values above U+10FFFF.
bool IsSecond(std::uint8_t lead, std::uint8_t second) {
  switch (lead) {
    case 0xe0:
      return second >= 0xa0 && second < 0xc0;
    case 0xed:
      return second >= 0x80 && second < 0xa0;
    case 0xf0:
      return second >= 0x90 && second < 0xc0;
    case 0xf4:
      return second >= 0x80 && second < 0x90;
    default:
      return second >= 0x80 && second < 0xc0;
  }
}

}  // namespace

CharClass ClassOf(std::uint32_t code_point) {
  static const std::vector<CharClass> classes = MakeClasses();
  return code_point < kNumCodePoints ? classes[code_point] : CharClass::kOther;
}

bool IsWordCharacter(std::uint32_t code_point) {
  const std::span<const CodePointRange> ranges = WordRanges();
  const auto range = std::lower_bound(ranges.begin(), ranges.end(), code_point,
                                      [](const CodePointRange& r, std::uint32_t c) { return r.last < c; });
  return range != ranges.end() && range->first <= code_point;
}

CodePoint DecodeCodePoint(std::string_view text, std::size_t position) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[position + i]); };
  const std::uint8_t lead = byte(0);
  const auto length = static_cast<std::size_t>(LengthFrom(lead));
  if (length == 1) return {lead, 1};
  if (length == 0 || length > text.size() - position || !IsSecond(lead, byte(1))) return {CodePoint::kInvalid, 1};
  std::uint32_t value = lead & (0x7fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {CodePoint::kInvalid, 1};
    value = value << 6 | (byte(i) & 0x3fu);
  }
  return {value, static_cast<std::uint32_t>(length)};
}

bool AppendCodePoint(std::uint32_t code_point, std::string& text) {
  const auto tail = [code_point](int shift) { return static_cast<char>(0x80 | ((code_point >> shift) & 0x3f)); };
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    text += {static_cast<char>(0xc0 | code_point >> 6), tail(0)};
  } else if (code_point < 0x10000) {
    if (code_point >= 0xd800 && code_point < 0xe000) return false;
    text += {static_cast<char>(0xe0 | code_point >> 12), tail(6), tail(0)};
  } else if (code_point < kNumCodePoints) {
    text += {static_cast<char>(0xf0 | code_point >> 18), tail(12), tail(6), tail(0)};
  } else {
    return false;
  }
  return true;
}

bool Utf8Decoder::Continues(std::uint8_t byte) const {
  return size_ == 1 ? IsSecond(static_cast<std::uint8_t>(pending_[0]), byte) : (byte & 0xc0) == 0x80;
}

void Utf8Decoder::Push(std::string_view bytes, std::string& text) {
  for (const char c : bytes) {
    const auto byte = static_cast<std::uint8_t>(c);
    if (size_ > 0 && !Continues(byte)) Finish(text);
    if (size_ == 0) {
      length_ = LengthFrom(byte);
      if (length_ == 0) {
        text += kReplacementCharacter;
        continue;
      }
    }
    pending_[size_++] = c;
    if (size_ == length_) {
      text.append(pending_, static_cast<std::size_t>(size_));
      size_ = 0;
    }
  }
}

void Utf8Decoder::Finish(std::string& text) {
  if (size_ > 0) text += kReplacementCharacter;
  size_ = 0;
}

std::string ToValidUtf8(std::string_view bytes) {
  std::string text;
  Utf8Decoder decoder;
  decoder.Push(bytes, text);
  decoder.Finish(text);
  return text;
}

}  // namespace megakernel
