#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/case_operations.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/text_operations.h"

namespace megakernel::jinja {
namespace {

// The text of a value, for filters that take anything that can be printed.
bool GetText(Context& context, const Value& value, std::string& text) {
  if (AppendText(value, text)) return true;
  context.Fail(absl::StrCat("cannot use ", value.TypeName(), " as text"));
  return false;
}

Value ApplyTrim(Context& context, const Value& input, Args args) {
  std::string text;
  if (!GetText(context, input, text)) return {};
  const std::string_view set = args[0].IsString() ? std::string_view(args[0].AsString()) : std::string_view();
  return context.String(std::string(Strip(text, set, Sides::kBoth)));
}

Value ApplyLength(Context& context, const Value& input, Args args) {
  if (input.IsString()) {
    context.Charge(static_cast<std::int64_t>(input.AsString().size() / 16));
    return Value::MakeInteger(CountCharacters(input.AsString()));
  }
  if (input.IsList()) return Value::MakeInteger(static_cast<std::int64_t>(input.AsList().size()));
  if (input.IsDict()) return Value::MakeInteger(static_cast<std::int64_t>(input.AsDict().size()));
  if (input.IsUndefined()) return Value::MakeInteger(0);
  return context.Fail(absl::StrCat(input.TypeName(), " has no length"));
}

template <Case kCase>
Value ApplyCase(Context& context, const Value& input, Args args) {
  std::string text;
  if (!GetText(context, input, text)) return {};
  if (!ChangeCase(kCase, text)) return context.Fail("upper and lower case of text beyond ASCII are not supported");
  return context.String(std::move(text));
}

Value ApplyDefault(Context& context, const Value& input, Args args) {
  const bool replace = input.IsUndefined() || (args[1].Truth() && !input.Truth());
  if (!replace) return input;
  return args[0].IsUndefined() ? context.String("") : args[0];
}

// Items of a list, characters of a string, keys of a dictionary.
Value ApplyList(Context& context, const Value& input, Args args) {
  if (input.IsList()) return input;
  List items;
  if (input.IsString()) {
    if (!context.Charge(static_cast<std::int64_t>(input.AsString().size()))) return {};
    for (const std::string_view c : Characters(input.AsString())) items.push_back(Value::MakeString(std::string(c)));
  } else if (input.IsDict()) {
    for (const auto& [key, value] : input.AsDict()) items.push_back(Value::MakeString(key));
  } else if (!input.IsUndefined()) {
    return context.Fail(absl::StrCat(input.TypeName(), " is not a sequence"));
  }
  return context.MakeList(std::move(items));
}

Value ApplyFirst(Context& context, const Value& input, Args args) {
  const Value items = ApplyList(context, input, args);
  if (!items.IsList() || items.AsList().empty()) return Value::MakeUndefined("the first item of nothing");
  return items.AsList().front();
}

Value ApplyLast(Context& context, const Value& input, Args args) {
  const Value items = ApplyList(context, input, args);
  if (!items.IsList() || items.AsList().empty()) return Value::MakeUndefined("the last item of nothing");
  return items.AsList().back();
}

Value ApplyReverse(Context& context, const Value& input, Args args) {
  const Value items = ApplyList(context, input, args);
  if (!items.IsList()) return {};
  List reversed(items.AsList().rbegin(), items.AsList().rend());
  if (!input.IsString()) return context.MakeList(std::move(reversed));
  std::string text;
  for (const Value& c : reversed) text += c.AsString();
  return context.String(std::move(text));
}

Value ApplyJoin(Context& context, const Value& input, Args args) {
  const Value items = ApplyList(context, input, args);
  if (!items.IsList()) return {};
  const std::string_view glue = args[0].IsString() ? std::string_view(args[0].AsString()) : std::string_view();
  std::string text;
  bool first = true;
  for (const Value& item : items.AsList()) {
    if (!first) text += glue;
    first = false;
    if (!GetText(context, item, text)) return {};
    if (text.size() > kMaxOutputBytes) break;  // String refuses it
  }
  return context.String(std::move(text));
}

Value ApplyReplace(Context& context, const Value& input, Args args) {
  std::string text;
  std::string from;
  std::string to;
  if (!GetText(context, input, text) || !GetText(context, args[0], from) || !GetText(context, args[1], to)) return {};
  if (from.empty()) return context.Fail("replace needs text to look for");
  if (text.size() / from.size() * to.size() > kMaxOutputBytes) return context.Fail("replace makes too much text");
  return context.String(ReplaceAll(text, from, to));
}

Value ApplyToJson(Context& context, const Value& input, Args args) {
  constexpr std::int64_t kMaxIndent = 16;
  int indent = -1;
  if (args[0].IsInteger()) {
    if (args[0].AsInteger() < 0 || args[0].AsInteger() > kMaxIndent) {
      return context.Fail(absl::StrCat("tojson: indent ", args[0].AsInteger(), " is not in 0 to ", kMaxIndent));
    }
    indent = static_cast<int>(args[0].AsInteger());
  }
  if (!context.Charge(input.Nodes())) return {};
  std::string text;
  if (!AppendJson(input, indent, text))
    return context.Fail(absl::StrCat("tojson: ", input.TypeName(), " cannot be JSON"));
  return context.String(std::move(text));
}

Value ApplyString(Context& context, const Value& input, Args args) {
  std::string text;
  return GetText(context, input, text) ? context.String(std::move(text)) : Value();
}

Value ApplyInt(Context& context, const Value& input, Args args) {
  if (input.IsInteger() || input.IsBool()) return Value::MakeInteger(input.AsInteger());
  if (input.IsFloat() && std::abs(input.AsFloat()) < 0x1p62) {
    return Value::MakeInteger(static_cast<std::int64_t>(input.AsFloat()));
  }
  if (input.IsString()) {
    std::string_view text = Strip(input.AsString(), "", Sides::kBoth);
    if (text.starts_with('+')) text.remove_prefix(1);
    std::int64_t value = 0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
    if (result.ec == std::errc() && result.ptr == text.data() + text.size()) return Value::MakeInteger(value);
  }
  return args[0].IsUndefined() ? Value::MakeInteger(0) : args[0];
}

Value ApplyAbs(Context& context, const Value& input, Args args) {
  if (input.IsFloat()) return Value::MakeFloat(std::abs(input.AsFloat()));
  if (!input.IsNumber() || input.AsInteger() == INT64_MIN) return context.Fail("abs needs a number");
  return Value::MakeInteger(std::abs(input.AsInteger()));
}

Value ApplyItems(Context& context, const Value& input, Args args) {
  if (input.IsUndefined()) return context.MakeList({});
  if (!input.IsDict()) return context.Fail(absl::StrCat("items needs a dictionary, not ", input.TypeName()));
  return FindMethod("items")->call(context, input, {});
}

Value ApplySafe(Context& context, const Value& input, Args args) {
  return input;
}

constexpr Filter kFilters[] = {
    {{"trim", {"chars"}}, ApplyTrim},
    {{"length"}, ApplyLength},
    {{"count"}, ApplyLength},
    {{"upper"}, ApplyCase<Case::kUpper>},
    {{"lower"}, ApplyCase<Case::kLower>},
    {{"capitalize"}, ApplyCase<Case::kCapitalize>},
    {{"default", {"default_value", "boolean"}}, ApplyDefault},
    {{"d", {"default_value", "boolean"}}, ApplyDefault},
    {{"list"}, ApplyList},
    {{"first"}, ApplyFirst},
    {{"last"}, ApplyLast},
    {{"reverse"}, ApplyReverse},
    {{"join", {"d"}}, ApplyJoin},
    {{"replace", {"old", "new"}, 2}, ApplyReplace},
    {{"tojson", {"indent"}}, ApplyToJson},
    {{"string"}, ApplyString},
    {{"int", {"default"}}, ApplyInt},
    {{"abs"}, ApplyAbs},
    {{"items"}, ApplyItems},
    {{"safe"}, ApplySafe},  // nothing is escaped, so there is nothing to mark
};

}  // namespace

const Filter* FindFilter(std::string_view name) {
  const auto* found = std::find_if(std::begin(kFilters), std::end(kFilters),
                                   [name](const Filter& filter) { return filter.signature.name == name; });
  return found == std::end(kFilters) ? FindSelectionFilter(name) : found;
}

}  // namespace megakernel::jinja
