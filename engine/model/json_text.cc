#include "engine/model/json_text.h"

#include <set>
#include <vector>

#include "absl/strings/str_cat.h"

namespace megakernel {
namespace {

// The library's parser keeps its stack on the heap, but its values are destroyed recursively: depth is bounded first.
bool TooDeep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxJsonDepth) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

// Text of a value for messages, short whatever the file holds.
std::string Shown(const nlohmann::json& value) {
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > 60) text = absl::StrCat(text.substr(0, 57), "...");
  return text;
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, const std::string& where) {
  using nlohmann::json;
  if (TooDeep(text)) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": JSON nests deeper than the limit of ", kMaxJsonDepth, " levels"));
  }
  std::vector<std::set<std::string>> open_keys;
  std::string repeated;
  const json::parser_callback_t watch = [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) open_keys.emplace_back();
    if (event == json::parse_event_t::object_end) open_keys.pop_back();
    if (event == json::parse_event_t::key && !open_keys.back().insert(value.get<std::string>()).second) {
      if (repeated.empty()) repeated = Shown(value);
    }
    return true;
  };
  json parsed;
  try {
    parsed = json::parse(text.begin(), text.end(), watch);
  } catch (const json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": not valid JSON: ", error.what()));
  }
  if (!parsed.is_object()) return absl::InvalidArgumentError(absl::StrCat(where, ": the JSON text is not an object"));
  if (!repeated.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": the key ", repeated, " appears twice in one object"));
  }
  return parsed;
}

const nlohmann::json* JsonFields::Find(const char* key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void JsonFields::Fail(const std::string& message) {
  if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat(where_, ": ", message));
}

std::int64_t JsonFields::Int(const char* key, std::int64_t low, std::int64_t high,
                             std::optional<std::int64_t> fallback) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) {
    if (!fallback) Fail(absl::StrCat(key, " is missing"));
    return fallback.value_or(low);
  }
  // Unsigned values above 2^63 - 1 would wrap in get<int64_t>.
  const bool fits = value->is_number_integer() &&
                    (!value->is_number_unsigned() || value->get<std::uint64_t>() <= std::uint64_t{INT64_MAX});
  if (!fits || value->get<std::int64_t>() < low || value->get<std::int64_t>() > high) {
    Fail(absl::StrCat(key, " is ", Shown(*value), "; it must be an integer from ", low, " to ", high));
    return low;
  }
  return value->get<std::int64_t>();
}

double JsonFields::Number(const char* key, double low, double high, std::optional<double> fallback) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) {
    if (!fallback) Fail(absl::StrCat(key, " is missing"));
    return fallback.value_or(low);
  }
  const double number = value->is_number() ? value->get<double>() : low;
  if (!value->is_number() || !(number >= low && number <= high)) {
    Fail(absl::StrCat(key, " is ", Shown(*value), "; it must be a number from ", low, " to ", high));
    return low;
  }
  return number;
}

bool JsonFields::Bool(const char* key, bool fallback) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    Fail(absl::StrCat(key, " is ", Shown(*value), "; it must be true or false"));
    return false;
  }
  return value->get<bool>();
}

std::string JsonFields::String(const char* key, std::optional<std::string> fallback) {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) {
    if (!fallback) Fail(absl::StrCat(key, " is missing"));
    return fallback.value_or("");
  }
  if (!value->is_string()) {
    Fail(absl::StrCat(key, " is ", Shown(*value), "; it must be a string"));
    return "";
  }
  return value->get<std::string>();
}

}  // namespace megakernel
