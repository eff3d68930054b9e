#include "server/strict_json.h"

#include <algorithm>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace megakernel {
namespace {

using Json = nlohmann::json;

// "line 3, column 7" of the byte at `position`.
std::string Place(const std::string& text, std::size_t position) {
  const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min(position, text.size()));
  const auto line = std::count(text.begin(), end, '\n') + 1;
  const auto line_start = std::find(std::make_reverse_iterator(end), text.rend(), '\n').base();
  return absl::StrCat("line ", line, ", column ", end - line_start);
}

}  // namespace

absl::StatusOr<Json> ParseStrictJson(const std::string& text, const std::string& source, bool may_quote) {
  std::vector<std::set<std::string>> keys;
  std::string repeated;
  const auto watch = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      repeated = parsed.get<std::string>();
    }
    return true;
  };
  Json json;
  try {  // the library reports syntax errors, with line and column, by exception only
    json = Json::parse(text, watch, true, true);
  } catch (const Json::parse_error& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": ", may_quote ? error.what() : absl::StrCat("no JSON at ", Place(text, error.byte))));
  } catch (const Json::out_of_range&) {  // which knows no place
    return absl::InvalidArgumentError(absl::StrCat(source, ": a number is larger than any that is known"));
  }
  if (!repeated.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": ", may_quote ? repeated : "a key", may_quote ? ": the key" : "", " stands twice"));
  }
  if (!json.is_object()) return absl::InvalidArgumentError(absl::StrCat(source, ": an object { ... } is needed"));
  return json;
}

}  // namespace megakernel
