#include "engine/text/jinja/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "absl/strings/str_format.h"

namespace megakernel::jinja {
namespace {

// Python's repr of a float: the shortest digits that give it back, an exponent below 1e-4 and from 1e16 on.
std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const double magnitude = std::abs(value);
  const bool with_exponent = magnitude != 0.0 && (magnitude < 1e-4 || magnitude >= 1e16);
  const auto format = with_exponent ? std::chars_format::scientific : std::chars_format::fixed;
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, format).ptr;
  std::string text(buffer, end);
  if (!with_exponent && text.find('.') == std::string::npos) text += ".0";
  return text;
}

void AppendJsonString(std::string_view value, std::string& text) {
  text += '"';
  for (const char c : value) {
    switch (c) {
      case '"':
        text += "\\\"";
        break;
      case '\\':
        text += "\\\\";
        break;
      case '\n':
        text += "\\n";
        break;
      case '\r':
        text += "\\r";
        break;
      case '\t':
        text += "\\t";
        break;
      case '\b':
        text += "\\b";
        break;
      case '\f':
        text += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          absl::StrAppendFormat(&text, "\\u%04x", static_cast<unsigned>(c));
        } else {
          text += c;
        }
    }
  }
  text += '"';
}

class JsonWriter {
 public:
  JsonWriter(int indent, std::string& text) : indent_(indent), text_(text) {}

  bool Write(const Value& value) {
    if (value.IsString()) {
      AppendJsonString(value.AsString(), text_);
      return true;
    }
    if (value.IsNone()) return Put("null");
    if (value.IsBool()) return Put(value.AsBool() ? "true" : "false");
    if (value.IsInteger()) return Put(std::to_string(value.AsInteger()));
    if (value.IsFloat()) return std::isfinite(value.AsFloat()) && Put(FloatText(value.AsFloat()));
    if (value.IsList()) {
      return Items('[', ']', value.AsList(), [this](const Value& item) { return Write(item); });
    }
    if (!value.IsDict()) return false;
    return Items('{', '}', value.AsDict(), [this](const auto& entry) {
      AppendJsonString(entry.first, text_);
      return Put(": ") && Write(entry.second);
    });
  }

 private:
  bool Put(std::string_view text) {
    text_ += text;
    return true;
  }

  void NewLine() {
    if (indent_ < 0) return;
    text_ += '\n';
    text_.append(static_cast<std::size_t>(level_ * indent_), ' ');
  }

  template <class Container, class WriteItem>
  bool Items(char open, char close, const Container& items, WriteItem write) {
    text_ += open;
    ++level_;
    bool first = true;
    for (const auto& item : items) {
      if (!first) text_ += indent_ < 0 ? ", " : ",";
      first = false;
      NewLine();
      if (!write(item)) return false;
    }
    --level_;
    if (!first) NewLine();
    text_ += close;
    return true;
  }

  int indent_;
  int level_ = 0;
  std::string& text_;
};

}  // namespace

Value Value::MakeString(std::string value) {
  return Value(Data(std::make_shared<const std::string>(std::move(value))));
}

void Value::Enclose(const Value& item) {
  depth_ = std::max(depth_, item.depth_ + 1);
  // Saturates: elements are bounded by kMaxValueNodes when they are made, but a list may hold many of them.
  constexpr std::int64_t kMany = std::int64_t{1} << 60;
  nodes_ = std::min(kMany, nodes_ + item.nodes_);
}

Value Value::MakeList(List value) {
  Value list{Data(std::make_shared<const List>(std::move(value)))};
  list.depth_ = 1;
  for (const Value& item : list.AsList()) list.Enclose(item);
  return list;
}

Value Value::MakeDict(Dict value) {
  Value dict{Data(std::make_shared<const Dict>(std::move(value)))};
  dict.depth_ = 1;
  for (const auto& [key, item] : dict.AsDict()) dict.Enclose(item);
  return dict;
}

Value Value::MakeNamespace(Dict fields) {
  return Value(Data(std::make_shared<Namespace>(Namespace{std::move(fields)})));
}

bool Value::Truth() const {
  if (IsBool()) return AsBool();
  if (IsInteger()) return AsInteger() != 0;
  if (IsFloat()) return AsFloat() != 0.0;
  if (IsString()) return !AsString().empty();
  if (IsList()) return !AsList().empty();
  if (IsDict()) return !AsDict().empty();
  return IsNamespace();
}

const char* Value::TypeName() const {
  static constexpr const char* kNames[] = {"undefined", "none",   "a truth value", "an integer", "a float",
                                           "a string",  "a list", "a dictionary",  "a namespace"};
  return kNames[data_.index()];
}

bool operator==(const Value& a, const Value& b) {
  if (a.IsNumber() && b.IsNumber()) {
    return a.IsFloat() || b.IsFloat() ? a.AsFloat() == b.AsFloat() : a.AsInteger() == b.AsInteger();
  }
  if (a.data_.index() != b.data_.index()) return false;
  if (a.IsString()) return a.AsString() == b.AsString();
  if (a.IsList()) return a.AsList() == b.AsList();
  if (a.IsNamespace()) return &a.AsNamespace() == &b.AsNamespace();
  if (!a.IsDict()) return true;  // undefined or none, twice
  if (a.AsDict().size() != b.AsDict().size()) return false;
  return std::all_of(a.AsDict().begin(), a.AsDict().end(), [&b](const auto& entry) {
    const Value* other = FindEntry(b.AsDict(), entry.first);
    return other != nullptr && *other == entry.second;
  });
}

const Value* FindEntry(const Dict& dict, std::string_view key) {
  const auto found = std::find_if(dict.begin(), dict.end(), [key](const auto& entry) { return entry.first == key; });
  return found == dict.end() ? nullptr : &found->second;
}

void SetEntry(Dict& dict, std::string_view key, Value value) {
  const auto found = std::find_if(dict.begin(), dict.end(), [key](const auto& entry) { return entry.first == key; });
  if (found == dict.end()) {
    dict.emplace_back(std::string(key), std::move(value));
  } else {
    found->second = std::move(value);
  }
}

bool AppendText(const Value& value, std::string& text) {
  if (value.IsString()) {
    text += value.AsString();
  } else if (value.IsNone()) {
    text += "None";
  } else if (value.IsBool()) {
    text += value.AsBool() ? "True" : "False";
  } else if (value.IsInteger()) {
    text += std::to_string(value.AsInteger());
  } else if (value.IsFloat()) {
    text += FloatText(value.AsFloat());
  } else {
    return value.IsUndefined();
  }
  return true;
}

bool AppendJson(const Value& value, int indent, std::string& text) {
  return JsonWriter(indent, text).Write(value);
}

}  // namespace megakernel::jinja
