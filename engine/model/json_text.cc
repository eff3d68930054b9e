#include "engine/model/json_text.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace megakernel {
namespace {

// The start of a text for messages, short whatever the file holds.
std::string Start(const std::string& text, std::size_t limit) {
  return text.size() <= limit ? text : absl::StrCat(text.substr(0, limit - 3), "...");
}

std::string Shown(const nlohmann::json& value) {
  return Start(value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace), 60);
}

// Builds a value from the events of the library's parser, and stops it at what is not allowed. The library's own
// builder needs a copy of every value to look at keys, and would find a repeated key too late.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  nlohmann::json Take() { return std::move(root_); }
  const std::string& problem() const { return problem_; }

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t&) override { return Add(value); }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t&) override { return Stop("binary values are not JSON"); }
  bool start_object(std::size_t) override { return Open(nlohmann::json::object()); }
  bool end_object() override { return Close(); }
  bool start_array(std::size_t) override { return Open(nlohmann::json::array()); }
  bool end_array() override { return Close(); }

  bool key(string_t& name) override {
    auto& members = open_.back()->get_ref<nlohmann::json::object_t&>();
    const auto [member, is_new] = members.emplace(std::move(name), nullptr);
    member_ = &member->second;
    return is_new || Stop(absl::StrCat("the key ", Shown(member->first), " appears twice in one object"));
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& error) override {
    return Stop(absl::StrCat("not valid JSON: ", Start(error.what(), 240)));  // it quotes the last token whole
  }

 private:
  bool Stop(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
    return false;
  }

  template <class T>
  bool Add(T&& value) {
    return Place(nlohmann::json(std::forward<T>(value))) != nullptr;
  }

  bool Open(nlohmann::json value) {
    if (open_.size() == kMaxJsonDepth) {
      return Stop(absl::StrCat("JSON nests deeper than the limit of ", kMaxJsonDepth, " levels"));
    }
    open_.push_back(Place(std::move(value)));
    return open_.back() != nullptr;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  // Where the value has its place now; null when there are too many.
  nlohmann::json* Place(nlohmann::json value) {
    if (++count_ > kMaxJsonValues) {
      Stop(absl::StrCat("JSON of more than ", kMaxJsonValues, " values"));
      return nullptr;
    }
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    nlohmann::json& parent = *open_.back();
    if (parent.is_array()) return &parent.get_ref<nlohmann::json::array_t&>().emplace_back(std::move(value));
    *member_ = std::move(value);
    return member_;
  }

  nlohmann::json root_;
  std::vector<nlohmann::json*> open_;  // objects and arrays not closed yet: none of them moves while it is open
  nlohmann::json* member_ = nullptr;   // of the innermost object, by the last key
  std::int64_t count_ = 0;
  std::string problem_;
};

}  // namespace

absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, const std::string& where) {
  Builder builder;
  const bool parsed = nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  if (!parsed) return absl::InvalidArgumentError(absl::StrCat(where, ": ", builder.problem()));
  nlohmann::json root = builder.Take();
  if (!root.is_object()) return absl::InvalidArgumentError(absl::StrCat(where, ": the JSON text is not an object"));
  return root;
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
