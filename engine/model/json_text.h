// JSON from untrusted files: bounded parsing, and typed access that names what is wrong.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace megakernel {

inline constexpr std::size_t kMaxJsonDepth = 32;
// The largest tokenizers of the families here have about 970,000 values (Llama 3: 128,000 tokens, 280,000 merges as
// pairs). Bounds the memory to some hundred bytes a value, and the time to less than a second.
inline constexpr std::int64_t kMaxJsonValues = 1'250'000;

// Parses one JSON object. InvalidArgument, starting with `where`, when the text is not JSON, is not an object, nests
// deeper than kMaxJsonDepth, has more than kMaxJsonValues values or repeats a key within an object: found as soon as it
// is read. The caller bounds the size of `text`.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, const std::string& where);

// Reads fields of an object and remembers the first thing that is wrong, so that callers check once at the end.
// A field that is absent or null takes the fallback; without a fallback that is an error. After an error every getter
// returns its lower bound, 0, false or "". Not thread-safe; `object` must outlive it.
class JsonFields {
 public:
  JsonFields(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {}

  // The field, or null when it is absent or null.
  const nlohmann::json* Find(const char* key) const;

  std::int64_t Int(const char* key, std::int64_t low, std::int64_t high, std::optional<std::int64_t> fallback = {});
  double Number(const char* key, double low, double high, std::optional<double> fallback = {});
  bool Bool(const char* key, bool fallback);
  std::string String(const char* key, std::optional<std::string> fallback = {});

  // Records `message` ("<where>: <message>") unless something was wrong before.
  void Fail(const std::string& message);

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }
  const std::string& where() const { return where_; }

 private:
  const nlohmann::json& object_;
  std::string where_;
  absl::Status status_;
};

}  // namespace megakernel
