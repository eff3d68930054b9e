#include "engine/text/jinja/string_literal.h"

#include <cstdint>

#include "engine/text/utf8.h"

namespace megakernel::jinja {
namespace {

constexpr std::string_view kPlain = "ntrbfva\\'\"";
constexpr std::string_view kPlainValues = "\n\t\r\b\f\v\a\\'\"";

int DigitValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : 16;
}

// Up to `max_digits` digits of `base` at body[i]; moves i past them.
std::uint32_t ReadDigits(std::string_view body, std::size_t& i, int base, int max_digits, int& count) {
  std::uint32_t value = 0;
  for (count = 0; count < max_digits && i < body.size() && DigitValue(body[i]) < base; ++count, ++i) {
    value = value * static_cast<std::uint32_t>(base) + static_cast<std::uint32_t>(DigitValue(body[i]));
  }
  return value;
}

}  // namespace

bool ResolveEscapes(std::string_view body, std::string& value) {
  for (std::size_t i = 0; i < body.size();) {
    if (body[i] != '\\' || i + 1 == body.size()) {
      value += body[i++];
      continue;
    }
    const char kind = body[i + 1];
    const std::size_t plain = kPlain.find(kind);
    int count = 0;
    if (plain != std::string_view::npos) {
      value += kPlainValues[plain];
      i += 2;
    } else if (kind == '\n') {
      i += 2;
    } else if (kind >= '0' && kind <= '7') {
      AppendCodePoint(ReadDigits(body, ++i, 8, 3, count), value);
    } else if (kind == 'x' || kind == 'u' || kind == 'U') {
      const int digits = kind == 'x' ? 2 : kind == 'u' ? 4 : 8;
      i += 2;
      const std::uint32_t code_point = ReadDigits(body, i, 16, digits, count);
      if (count != digits || !AppendCodePoint(code_point, value)) return false;
    } else {
      value += body[i++];
    }
  }
  return true;
}

}  // namespace megakernel::jinja
