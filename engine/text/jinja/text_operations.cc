#include "engine/text/jinja/text_operations.h"

#include <algorithm>

#include "engine/text/utf8.h"

namespace megakernel::jinja {
namespace {

// Python's str.isspace: White_Space and the four separators of ASCII.
bool IsSpace(std::uint32_t code_point) {
  return ClassOf(code_point) == CharClass::kSpace || (code_point >= 0x1c && code_point <= 0x1f);
}

bool IsStripped(std::string_view character, const std::vector<std::string_view>& set) {
  if (set.empty()) return IsSpace(DecodeCodePoint(character, 0).value);
  return std::find(set.begin(), set.end(), character) != set.end();
}

// The last character of `text`, which is not empty.
std::string_view LastCharacter(std::string_view text) {
  std::size_t begin = text.size() - 1;
  while (begin > 0 && text.size() - begin < 4 && (static_cast<std::uint8_t>(text[begin]) & 0xc0) == 0x80) --begin;
  const CodePoint c = DecodeCodePoint(text, begin);
  return c.bytes == text.size() - begin ? text.substr(begin) : text.substr(text.size() - 1);
}

}  // namespace

std::vector<std::string_view> Characters(std::string_view text) {
  std::vector<std::string_view> characters;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t bytes = DecodeCodePoint(text, i).bytes;
    characters.push_back(text.substr(i, bytes));
    i += bytes;
  }
  return characters;
}

std::int64_t CountCharacters(std::string_view text) {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < text.size(); ++count) i += DecodeCodePoint(text, i).bytes;
  return count;
}

std::string_view Strip(std::string_view text, std::string_view set, Sides sides) {
  const std::vector<std::string_view> characters = Characters(set);
  while (sides != Sides::kRight && !text.empty()) {
    const std::string_view first = text.substr(0, DecodeCodePoint(text, 0).bytes);
    if (!IsStripped(first, characters)) break;
    text.remove_prefix(first.size());
  }
  while (sides != Sides::kLeft && !text.empty()) {
    const std::string_view last = LastCharacter(text);
    if (!IsStripped(last, characters)) break;
    text.remove_suffix(last.size());
  }
  return text;
}

std::vector<std::string_view> SplitAtSpaces(std::string_view text, std::int64_t limit) {
  std::vector<std::string_view> parts;
  text = Strip(text, "", Sides::kLeft);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<std::int64_t>(parts.size()) == limit) {
      parts.push_back(text);
      break;
    }
    std::size_t end = 0;
    while (end < text.size()) {
      const CodePoint c = DecodeCodePoint(text, end);
      if (IsSpace(c.value)) break;
      end += c.bytes;
    }
    parts.push_back(text.substr(0, end));
    text = Strip(text.substr(end), "", Sides::kLeft);
  }
  return parts;
}

std::vector<std::string_view> SplitAt(std::string_view text, std::string_view separator, std::int64_t limit) {
  std::vector<std::string_view> parts;
  std::size_t begin = 0;
  while (limit < 0 || static_cast<std::int64_t>(parts.size()) < limit) {
    const std::size_t end = text.find(separator, begin);
    if (end == std::string_view::npos) break;
    parts.push_back(text.substr(begin, end - begin));
    begin = end + separator.size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  std::string_view glue;
  for (const std::string_view part : SplitAt(text, from, -1)) {
    result.append(glue).append(part);
    glue = to;
  }
  return result;
}

}  // namespace megakernel::jinja
