#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/case_operations.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/text_operations.h"

namespace megakernel::jinja {
namespace {

bool IsText(Context& context, const Value& self, std::string_view method) {
  if (self.IsString()) return true;
  context.Fail(absl::StrCat(self.TypeName(), " has no method ", std::string(method)));
  return false;
}

bool IsDictionary(Context& context, const Value& self, std::string_view method) {
  if (self.IsDict()) return true;
  context.Fail(absl::StrCat(self.TypeName(), " has no method ", std::string(method)));
  return false;
}

template <Sides kSides>
Value CallStrip(Context& context, const Value& self, Args args) {
  if (!IsText(context, self, "strip")) return {};
  const std::string_view set = args[0].IsString() ? std::string_view(args[0].AsString()) : std::string_view();
  return context.String(std::string(Strip(self.AsString(), set, kSides)));
}

Value CallSplit(Context& context, const Value& self, Args args) {
  if (!IsText(context, self, "split")) return {};
  const std::int64_t limit = args[1].IsInteger() ? args[1].AsInteger() : -1;
  if (args[0].IsString() && args[0].AsString().empty())
    return context.Fail("split needs a separator that is not empty");
  if (!context.Charge(static_cast<std::int64_t>(self.AsString().size() / 4))) return {};
  const std::vector<std::string_view> parts =
      args[0].IsString() ? SplitAt(self.AsString(), args[0].AsString(), limit) : SplitAtSpaces(self.AsString(), limit);
  List items;
  for (const std::string_view part : parts) items.push_back(Value::MakeString(std::string(part)));
  return context.MakeList(std::move(items));
}

bool NeedsText(Context& context, const Value& self, const Value& argument, std::string_view method) {
  if (!IsText(context, self, method)) return false;
  if (argument.IsString()) return true;
  context.Fail(absl::StrCat(std::string(method), " needs text, not ", argument.TypeName()));
  return false;
}

Value CallStartsWith(Context& context, const Value& self, Args args) {
  if (!NeedsText(context, self, args[0], "startswith")) return {};
  return Value::MakeBool(self.AsString().starts_with(args[0].AsString()));
}

Value CallEndsWith(Context& context, const Value& self, Args args) {
  if (!NeedsText(context, self, args[0], "endswith")) return {};
  return Value::MakeBool(self.AsString().ends_with(args[0].AsString()));
}

Value CallReplace(Context& context, const Value& self, Args args) {
  if (!NeedsText(context, self, args[0], "replace") || !NeedsText(context, self, args[1], "replace")) return {};
  return FindFilter("replace")->apply(context, self, args);
}

template <Case kCase>
Value CallCase(Context& context, const Value& self, Args args) {
  if (!IsText(context, self, "upper or lower")) return {};
  std::string text = self.AsString();
  if (!ChangeCase(kCase, text)) return context.Fail("upper and lower case of text beyond ASCII are not supported");
  return context.String(std::move(text));
}

Value CallJoin(Context& context, const Value& self, Args args) {
  if (!IsText(context, self, "join")) return {};
  return FindFilter("join")->apply(context, args[0], Args(&self, 1));
}

Value CallItems(Context& context, const Value& self, Args args) {
  if (!IsDictionary(context, self, "items")) return {};
  List items;
  for (const auto& [key, value] : self.AsDict()) items.push_back(context.MakeList({Value::MakeString(key), value}));
  return context.MakeList(std::move(items));
}

Value CallKeys(Context& context, const Value& self, Args args) {
  if (!IsDictionary(context, self, "keys")) return {};
  return FindFilter("list")->apply(context, self, args);
}

Value CallValues(Context& context, const Value& self, Args args) {
  if (!IsDictionary(context, self, "values")) return {};
  List items;
  for (const auto& [key, value] : self.AsDict()) items.push_back(value);
  return context.MakeList(std::move(items));
}

Value CallGet(Context& context, const Value& self, Args args) {
  if (!IsDictionary(context, self, "get")) return {};
  const Value* found = args[0].IsString() ? FindEntry(self.AsDict(), args[0].AsString()) : nullptr;
  if (found != nullptr) return *found;
  return args[1].IsUndefined() ? Value::MakeNone() : args[1];
}

constexpr Method kMethods[] = {
    {{"strip", {"chars"}}, CallStrip<Sides::kBoth>},
    {{"lstrip", {"chars"}}, CallStrip<Sides::kLeft>},
    {{"rstrip", {"chars"}}, CallStrip<Sides::kRight>},
    {{"split", {"sep", "maxsplit"}}, CallSplit},
    {{"startswith", {"prefix"}, 1}, CallStartsWith},
    {{"endswith", {"suffix"}, 1}, CallEndsWith},
    {{"replace", {"old", "new"}, 2}, CallReplace},
    {{"upper"}, CallCase<Case::kUpper>},
    {{"lower"}, CallCase<Case::kLower>},
    {{"capitalize"}, CallCase<Case::kCapitalize>},
    {{"title"}, CallCase<Case::kTitle>},
    {{"join", {"iterable"}, 1}, CallJoin},
    {{"items"}, CallItems},
    {{"keys"}, CallKeys},
    {{"values"}, CallValues},
    {{"get", {"key", "default"}, 1}, CallGet},
};

}  // namespace

const Method* FindMethod(std::string_view name) {
  const auto* found = std::find_if(std::begin(kMethods), std::end(kMethods),
                                   [name](const Method& method) { return method.signature.name == name; });
  return found == std::end(kMethods) ? nullptr : found;
}

}  // namespace megakernel::jinja
