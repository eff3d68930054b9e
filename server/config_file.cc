#include <cmath>
#include <fstream>
#include <iterator>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "server/command_line.h"
#include "server/strict_json.h"

namespace megakernel {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxFileBytes = 1 << 20;

absl::Status Error(const std::string& source, const std::string& path, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(source, ": ", path, ": ", what));
}

absl::Status UnknownKey(const std::string& source, const std::string& path) {
  std::vector<std::string_view> names;
  for (const Option& option : Options()) {
    if (!option.path.empty()) names.push_back(option.path);
  }
  std::string nearest(NearestName(path, names));
  if (nearest.empty()) {  // perhaps the key is right and the group is not
    const std::string key = path.substr(path.find('.') + 1);
    for (std::string_view name : names) {
      if (name.substr(name.find('.') + 1) == key) nearest = std::string(name);
    }
  }
  return Error(source, path,
               nearest.empty() ? "unknown key" : absl::StrCat("unknown key; did you mean ", nearest, "?"));
}

// The text that SetOption reads; an error when the JSON type does not fit.
absl::StatusOr<std::string> ValueText(const Option& option, const Json& value) {
  switch (option.kind) {
    case OptionKind::kString:
    case OptionKind::kChoice:
      if (value.is_string()) return value.get<std::string>();
      return absl::InvalidArgumentError(absl::StrCat("a string is needed, not ", value.dump()));
    case OptionKind::kDuration:
      if (value.is_string()) return value.get<std::string>();
      return absl::InvalidArgumentError(
          absl::StrCat("a time in quotes is needed, such as \"30s\", not ", value.dump()));
    case OptionKind::kBool:
      if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
      return absl::InvalidArgumentError(absl::StrCat("true or false is needed, not ", value.dump()));
    case OptionKind::kInteger:
    case OptionKind::kSize:
      if (value.is_number_integer()) return value.dump();
      if (value.is_string() && (option.kind == OptionKind::kSize || (option.may_be_auto && value == "auto"))) {
        return value.get<std::string>();
      }
      return absl::InvalidArgumentError(absl::StrCat("a whole number is needed, not ", value.dump()));
  }
  return absl::InternalError("unknown kind of option");
}

absl::Status ReadValue(const std::string& source, const std::string& path, const Json& value, ServerOptions& options) {
  const Option* option = FindPath(path);
  if (option == nullptr) return UnknownKey(source, path);
  const absl::StatusOr<std::string> text = ValueText(*option, value);
  if (!text.ok()) return Error(source, path, std::string(text.status().message()));
  const absl::Status status = SetOption(*option, *text, options);
  return status.ok() ? status : Error(source, path, std::string(status.message()));
}

}  // namespace

absl::Status ReadConfigText(const std::string& text, const std::string& source, ServerOptions& options) {
  const absl::StatusOr<Json> json = ParseStrictJson(text, source, /*may_quote=*/true);
  if (!json.ok()) return json.status();
  for (const auto& [group, entries] : json->items()) {
    bool known = false;
    for (const Option& option : Options()) known |= option.path.starts_with(group + ".");
    if (!known) return UnknownKey(source, group);
    if (!entries.is_object()) return Error(source, group, "an object { ... } is needed");
    for (const auto& [key, value] : entries.items()) {
      if (absl::Status status = ReadValue(source, absl::StrCat(group, ".", key), value, options); !status.ok()) {
        return status;
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ReadConfigFile(const std::string& path, ServerOptions& options) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::InvalidArgumentError(absl::StrCat("--config: cannot read ", path));
  std::string text;
  text.resize(kMaxFileBytes + 1);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return absl::InvalidArgumentError(absl::StrCat("--config: cannot read ", path));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat("--config: ", path, " is larger than ", kMaxFileBytes, " bytes"));
  }
  return ReadConfigText(text, path, options);
}

}  // namespace megakernel
