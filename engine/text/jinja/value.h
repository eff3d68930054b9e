// The values that a template computes with: Python's, as far as templates see them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace megakernel::jinja {

class Value;

struct Undefined {
  std::string name;  // what was looked up, for messages
};
struct None {};

using List = std::vector<Value>;
// In the order of insertion, as Python's.
using Dict = std::vector<std::pair<std::string, Value>>;

// namespace(...): the one thing that a template can change in place.
struct Namespace {
  Dict fields;
};

// Cheap to copy: lists, dictionaries and namespaces are shared, and only namespaces ever change.
class Value {
 public:
  Value() : data_(Undefined{}) {}
  static Value MakeUndefined(std::string name) { return Value(Data(Undefined{std::move(name)})); }
  static Value MakeNone() { return Value(Data(None{})); }
  static Value MakeBool(bool value) { return Value(Data(value)); }
  static Value MakeInteger(std::int64_t value) { return Value(Data(value)); }
  static Value MakeFloat(double value) { return Value(Data(value)); }
  static Value MakeString(std::string value);
  static Value MakeList(List value);
  static Value MakeDict(Dict value);
  static Value MakeNamespace(Dict fields);

  bool IsUndefined() const { return Is<Undefined>(); }
  bool IsNone() const { return Is<None>(); }
  bool IsBool() const { return Is<bool>(); }
  bool IsInteger() const { return Is<std::int64_t>(); }
  bool IsFloat() const { return Is<double>(); }
  bool IsNumber() const { return IsBool() || IsInteger() || IsFloat(); }
  bool IsString() const { return Is<StringPointer>(); }
  bool IsList() const { return Is<ListPointer>(); }
  bool IsDict() const { return Is<DictPointer>(); }
  bool IsNamespace() const { return Is<NamespacePointer>(); }

  // REQUIRES: the value is of that type; AsInteger takes bools, AsFloat every number.
  bool AsBool() const { return std::get<bool>(data_); }
  std::int64_t AsInteger() const { return IsBool() ? AsBool() : std::get<std::int64_t>(data_); }
  double AsFloat() const { return IsFloat() ? std::get<double>(data_) : static_cast<double>(AsInteger()); }
  const std::string& AsString() const { return *std::get<StringPointer>(data_); }
  const List& AsList() const { return *std::get<ListPointer>(data_); }
  const Dict& AsDict() const { return *std::get<DictPointer>(data_); }
  Namespace& AsNamespace() const { return *std::get<NamespacePointer>(data_); }
  const std::string& UndefinedName() const { return std::get<Undefined>(data_).name; }

  bool Truth() const;
  // "a string", "a list", ...
  const char* TypeName() const;
  // 0 for scalars, 1 + the deepest element for lists and dictionaries.
  int Depth() const { return depth_; }
  // 1 for scalars, 1 + those of all elements for lists and dictionaries; shared elements count each time. What a walk
  // over the value costs.
  std::int64_t Nodes() const { return nodes_; }

  friend bool operator==(const Value& a, const Value& b);

 private:
  using StringPointer = std::shared_ptr<const std::string>;
  using ListPointer = std::shared_ptr<const List>;
  using DictPointer = std::shared_ptr<const Dict>;
  using NamespacePointer = std::shared_ptr<Namespace>;
  using Data = std::variant<Undefined, None, bool, std::int64_t, double, StringPointer, ListPointer, DictPointer,
                            NamespacePointer>;

  explicit Value(Data data) : data_(std::move(data)) {}
  // Counts an element of a list or dictionary.
  void Enclose(const Value& item);

  template <class T>
  bool Is() const {
    return std::holds_alternative<T>(data_);
  }

  Data data_;
  int depth_ = 0;
  std::int64_t nodes_ = 1;
};

// The entry, or null.
const Value* FindEntry(const Dict& dict, std::string_view key);
// Replaces or appends.
void SetEntry(Dict& dict, std::string_view key, Value value);

// Text as Python's str(): of strings, numbers, True, None; "" for undefined. False for what has no text here (lists,
// dictionaries, namespaces).
bool AppendText(const Value& value, std::string& text);

// JSON as Python's json.dumps(value, ensure_ascii=False, indent=indent), indent -1 for one line. False for what JSON
// does not have: undefined values, namespaces, floats that are not finite.
bool AppendJson(const Value& value, int indent, std::string& text);

}  // namespace megakernel::jinja
