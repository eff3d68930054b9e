#include "engine/text/jinja/json_value.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/text/jinja/limits.h"

namespace megakernel::jinja {
namespace {

class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Value Take() { return std::move(root_); }
  const std::string& problem() const { return problem_; }

  bool null() override { return Add(Value::MakeNone()); }
  bool boolean(bool value) override { return Add(Value::MakeBool(value)); }
  bool number_integer(number_integer_t value) override { return Add(Value::MakeInteger(value)); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<number_unsigned_t>(std::numeric_limits<std::int64_t>::max())) {
      return Stop("an integer does not fit in 64 bits");
    }
    return Add(Value::MakeInteger(static_cast<std::int64_t>(value)));
  }
  bool number_float(number_float_t value, const string_t& text) override {
    if (text.find_first_of(".eE") == std::string::npos) return Stop("an integer does not fit in 64 bits");
    return Add(Value::MakeFloat(value));
  }
  bool string(string_t& value) override { return Add(Value::MakeString(std::move(value))); }
  bool binary(binary_t&) override { return Stop("binary values are not JSON"); }
  bool start_object(std::size_t) override { return Open(true); }
  bool start_array(std::size_t) override { return Open(false); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool key(string_t& name) override {
    if (FindEntry(open_.back().members, name) != nullptr) return Stop("a key appears twice in one object");
    open_.back().members.emplace_back(std::move(name), Value());
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& error) override {
    return Stop(absl::StrCat("not valid JSON: ", error.what()));
  }

 private:
  struct Container {
    bool is_object;
    Dict members;
    List items;
  };

  bool Stop(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
    return false;
  }

  bool Open(bool is_object) {
    if (open_.size() == kMaxValueDepth) return Stop(absl::StrCat("nested more than ", kMaxValueDepth, " deep"));
    open_.push_back({is_object, {}, {}});
    return true;
  }

  bool Close() {
    Container done = std::move(open_.back());
    open_.pop_back();
    return Add(done.is_object ? Value::MakeDict(std::move(done.members)) : Value::MakeList(std::move(done.items)));
  }

  bool Add(Value value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return true;
    }
    Container& parent = open_.back();
    if (!parent.is_object) {
      parent.items.push_back(std::move(value));
      return static_cast<std::int64_t>(parent.items.size()) <= kMaxValueNodes || Stop("too many elements");
    }
    parent.members.back().second = std::move(value);
    // Keys are searched in order, so this bounds the time, too.
    return parent.members.size() <= kMaxEntries ||
           Stop(absl::StrCat("an object of more than ", kMaxEntries, " members"));
  }

  std::vector<Container> open_;
  Value root_;
  std::string problem_;
};

}  // namespace

absl::StatusOr<Value> ParseJson(std::string_view text) {
  Builder builder;
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) {
    return absl::InvalidArgumentError(builder.problem());
  }
  return builder.Take();
}

}  // namespace megakernel::jinja
