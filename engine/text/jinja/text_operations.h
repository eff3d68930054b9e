// Operations on text that count in characters, as Python's do. All text is well-formed or treated byte by byte.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace megakernel::jinja {

std::int64_t CountCharacters(std::string_view text);
std::vector<std::string_view> Characters(std::string_view text);

enum class Sides { kBoth, kLeft, kRight };
// Without the characters of `set` at the ends; an empty set means Unicode white space.
std::string_view Strip(std::string_view text, std::string_view set, Sides sides);

// By white space, runs of it counting once; at most `limit` cuts unless negative.
std::vector<std::string_view> SplitAtSpaces(std::string_view text, std::int64_t limit);
// By `separator`, which is not empty.
std::vector<std::string_view> SplitAt(std::string_view text, std::string_view separator, std::int64_t limit);
std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to);

}  // namespace megakernel::jinja
