// UTF-8: decoding that survives malformed bytes, and the classes of characters that tokenizers tell apart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace megakernel {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

enum class CharClass : std::uint8_t { kOther, kLetter, kNumber, kSpace };

// \p{L}, \p{N} and \s (White_Space) of Unicode; everything else is kOther.
CharClass ClassOf(std::uint32_t code_point);
// \w of Rust's regular expressions: letters, marks, decimal digits, connecting punctuation and joiners.
bool IsWordCharacter(std::uint32_t code_point);

struct CodePoint {
  std::uint32_t value;  // kInvalid for a byte that begins no well-formed character
  std::uint32_t bytes;  // 1 when invalid

  static constexpr std::uint32_t kInvalid = 0xffffffff;
};

// The character at `position`. REQUIRES: position < text.size().
CodePoint DecodeCodePoint(std::string_view text, std::size_t position);

// Appends the character. False, and nothing appended, for surrogates and values above U+10FFFF.
bool AppendCodePoint(std::uint32_t code_point, std::string& text);

// Bytes in pieces to well-formed text. Every maximal part of a malformed or unfinished sequence becomes one U+FFFD (the
// practice of the Unicode standard, section 3.9, as in Python and Rust). Holds at most 3 bytes. Not thread-safe.
class Utf8Decoder {
 public:
  void Push(std::string_view bytes, std::string& text);
  // The end: an unfinished character becomes U+FFFD.
  void Finish(std::string& text);

 private:
  bool Continues(std::uint8_t byte) const;

  char pending_[4] = {};
  int size_ = 0;    // bytes held
  int length_ = 0;  // bytes that the held character will have
};

// `bytes` decoded at once.
std::string ToValidUtf8(std::string_view bytes);

}  // namespace megakernel
