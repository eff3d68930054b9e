#include "server/token_file.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "server/small_file.h"
#include "server/strict_json.h"

namespace megakernel {
namespace {

using Json = nlohmann::json;

constexpr Scope kScopes[] = {Scope::kInfer, Scope::kSession, Scope::kAdmin};
constexpr std::int64_t kMaxCount = 1 << 28;
constexpr double kMaxRate = 1e12;

// Reads the file, knowing where it is in it.
class TokenFileReader {
 public:
  explicit TokenFileReader(std::string source) : source_(std::move(source)) {}

  absl::StatusOr<TokenSet> Read(const Json& file) {
    for (const auto& [key, value] : file.items()) {
      if (key != "tokens" && key != "tenants") return Error(key, "unknown key; known are tokens and tenants");
    }
    const auto tokens = file.find("tokens");
    if (tokens == file.end() || !tokens->is_array() || tokens->empty()) {
      return Error("tokens", "a list with at least one token is needed");
    }
    if (tokens->size() > kMaxTokens) return Error("tokens", absl::StrCat(tokens->size(), ", at most ", kMaxTokens));
    for (std::size_t i = 0; i < tokens->size(); ++i) {
      MK_RETURN_IF_ERROR(ReadToken((*tokens)[i], absl::StrCat("tokens[", i, "]")));
    }
    if (const auto tenants = file.find("tenants"); tenants != file.end()) MK_RETURN_IF_ERROR(ReadTenants(*tenants));
    return std::move(set_);
  }

 private:
  absl::Status Error(const std::string& path, const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(source_, ": ", path, ": ", what));
  }

  absl::Status ReadToken(const Json& entry, const std::string& path) {
    if (!entry.is_object()) return Error(path, "an object { ... } is needed");
    for (const auto& [key, value] : entry.items()) {
      if (key != "tenant" && key != "scopes" && key != "token" && key != "sha256" && key != "note") {
        return Error(absl::StrCat(path, ".", key), "unknown key; known are tenant, scopes, token, sha256 and note");
      }
    }
    TokenSet::Entry token;
    MK_ASSIGN_OR_RETURN(token.caller.tenant, ReadTenantName(entry, path));
    MK_ASSIGN_OR_RETURN(token.caller.scopes, ReadScopes(entry, path));
    MK_ASSIGN_OR_RETURN(token.hash, ReadHash(entry, path));
    const auto [other, inserted] = paths_.emplace(token.hash, path);
    if (!inserted) return Error(path, absl::StrCat("the same token as ", other->second));
    set_.entries.push_back(std::move(token));
    return absl::OkStatus();
  }

  absl::Status CheckTenantName(const std::string& name, const std::string& path) const {
    const auto allowed = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
             c == '-';
    };
    if (!name.empty() && name.size() <= kMaxTenantBytes && std::all_of(name.begin(), name.end(), allowed)) {
      return absl::OkStatus();
    }
    return Error(path, absl::StrCat("a tenant has 1 to ", kMaxTenantBytes, " letters, digits, '.', '_' or '-'"));
  }

  absl::StatusOr<std::string> ReadTenantName(const Json& entry, const std::string& path) const {
    const auto found = entry.find("tenant");
    if (found == entry.end() || !found->is_string()) return Error(path + ".tenant", "a string is needed");
    std::string name = found->get<std::string>();
    MK_RETURN_IF_ERROR(CheckTenantName(name, path + ".tenant"));
    return name;
  }

  absl::StatusOr<std::uint8_t> ReadScopes(const Json& entry, const std::string& path) const {
    const auto found = entry.find("scopes");
    if (found == entry.end() || !found->is_array() || found->empty()) {
      return Error(path + ".scopes", "a list of infer, session and admin is needed");
    }
    std::uint8_t scopes = 0;
    for (std::size_t i = 0; i < found->size(); ++i) {
      const Json& name = (*found)[i];
      const auto scope = std::find_if(std::begin(kScopes), std::end(kScopes), [&](Scope candidate) {
        return name.is_string() && name.get<std::string>() == ScopeName(candidate);
      });
      if (scope == std::end(kScopes)) {
        return Error(absl::StrCat(path, ".scopes[", i, "]"), "is none of infer, session, admin");
      }
      scopes |= static_cast<std::uint8_t>(*scope);
    }
    return scopes;
  }

  absl::StatusOr<TokenHash> ReadHash(const Json& entry, const std::string& path) const {
    const auto plain = entry.find("token");
    const auto hashed = entry.find("sha256");
    if ((plain == entry.end()) == (hashed == entry.end())) {
      return Error(path, "either token or sha256 is needed, and not both");
    }
    if (plain != entry.end()) {
      const std::string token = plain->is_string() ? plain->get<std::string>() : "";
      const auto visible = [](char c) { return c > ' ' && c <= '~'; };  // what a metadata value carries unchanged
      if (token.size() < kMinTokenBytes || token.size() > kMaxTokenBytes ||
          !std::all_of(token.begin(), token.end(), visible)) {
        return Error(path + ".token", absl::StrCat("a string of ", kMinTokenBytes, " to ", kMaxTokenBytes,
                                                   " visible ASCII characters is needed"));
      }
      return HashToken(token);
    }
    const std::string digits = hashed->is_string() ? hashed->get<std::string>() : "";
    const bool hex = std::all_of(digits.begin(), digits.end(), [](char c) { return absl::ascii_isxdigit(c); });
    TokenHash hash;
    if (digits.size() != 2 * hash.size() || !hex) return Error(path + ".sha256", "64 hexadecimal digits are needed");
    const std::string bytes = absl::HexStringToBytes(digits);
    std::copy(bytes.begin(), bytes.end(), hash.begin());
    return hash;
  }

  absl::Status ReadTenants(const Json& tenants) {
    if (!tenants.is_object()) return Error("tenants", "an object { ... } is needed");
    for (const auto& [name, limits] : tenants.items()) {
      const std::string path = absl::StrCat("tenants.", name);
      const bool known =
          std::any_of(set_.entries.begin(), set_.entries.end(),
                      [&name = name](const TokenSet::Entry& entry) { return entry.caller.tenant == name; });
      if (!known) return Error(path, "no token is of this tenant");
      if (!limits.is_object()) return Error(path, "an object { ... } is needed");
      for (const auto& [key, value] : limits.items()) {
        MK_RETURN_IF_ERROR(ReadLimit(key, value, absl::StrCat(path, ".", key), set_.limits[name]));
      }
      if (set_.limits[name].burst_tokens.has_value() && !set_.limits[name].tokens_per_second.has_value()) {
        return Error(path + ".burst_tokens", "needs tokens_per_second");
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadLimit(const std::string& key, const Json& value, const std::string& path,
                         TenantLimits& limits) const {
    if (key == "sessions") return ReadCount(value, path, 0, limits.sessions);
    if (key == "kv_pages") return ReadCount(value, path, 0, limits.kv_pages);
    if (key == "queued_requests") return ReadCount(value, path, 1, limits.queued_requests);
    if (key == "tokens_per_second") return ReadRate(value, path, 1e-3, limits.tokens_per_second);
    if (key == "burst_tokens") return ReadRate(value, path, 1, limits.burst_tokens);
    return Error(path,
                 "unknown limit; known are sessions, kv_pages, queued_requests, tokens_per_second and burst_tokens");
  }

  absl::Status ReadCount(const Json& value, const std::string& path, std::int64_t min,
                         std::optional<std::int32_t>& count) const {
    const bool whole = value.is_number_integer();
    if (!whole || value < min || value > kMaxCount) {
      return Error(path, absl::StrCat("a whole number in [", min, ", ", kMaxCount, "] is needed"));
    }
    count = value.get<std::int32_t>();
    return absl::OkStatus();
  }

  absl::Status ReadRate(const Json& value, const std::string& path, double min, std::optional<double>& rate) const {
    const double number = value.is_number() ? value.get<double>() : -1;
    if (!std::isfinite(number) || number < min || number > kMaxRate) {
      return Error(path, absl::StrCat("a number in [", min, ", ", kMaxRate, "] is needed"));
    }
    rate = number;
    return absl::OkStatus();
  }

  const std::string source_;
  TokenSet set_;
  std::map<TokenHash, std::string> paths_;  // of the entries so far
};

}  // namespace

absl::StatusOr<TokenSet> ParseTokenFile(const std::string& text, const std::string& source) {
  MK_ASSIGN_OR_RETURN(const Json file, ParseStrictJson(text, source, /*may_quote=*/false));
  return TokenFileReader(source).Read(file);
}

absl::StatusOr<TokenSet> ReadTokenFile(const std::string& path) {
  MK_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMaxTokenFileBytes));
  return ParseTokenFile(text, path);
}

}  // namespace megakernel
