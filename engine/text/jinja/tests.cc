#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/limits.h"

namespace megakernel::jinja {
namespace {

// What compares two strings costs.
std::int64_t TextWork(const Value& value) {
  return value.IsString() ? static_cast<std::int64_t>(value.AsString().size() / 16) : 0;
}

bool Remainder(Context& context, const Value& input, std::int64_t divisor, std::int64_t& remainder) {
  if (!input.IsInteger() || divisor == 0 || divisor == -1) {
    context.Fail("the test needs an integer, and a divisor that is not 0");
    return false;
  }
  remainder = input.AsInteger() % divisor;
  return true;
}

bool IsOdd(Context& context, const Value& input, Args args) {
  std::int64_t remainder = 0;
  return Remainder(context, input, 2, remainder) && remainder != 0;
}

bool IsEven(Context& context, const Value& input, Args args) {
  std::int64_t remainder = 0;
  return Remainder(context, input, 2, remainder) && remainder == 0;
}

bool IsDivisibleBy(Context& context, const Value& input, Args args) {
  std::int64_t remainder = 0;
  return Remainder(context, input, args[0].IsInteger() ? args[0].AsInteger() : 0, remainder) && remainder == 0;
}

template <bool (Value::*kIs)() const>
bool Is(Context& context, const Value& input, Args args) {
  return (input.*kIs)();
}

bool IsDefined(Context& context, const Value& input, Args args) {
  return !input.IsUndefined();
}
bool IsTrue(Context& context, const Value& input, Args args) {
  return input.IsBool() && input.AsBool();
}
bool IsFalse(Context& context, const Value& input, Args args) {
  return input.IsBool() && !input.AsBool();
}
bool IsIterable(Context& context, const Value& input, Args args) {
  return input.IsString() || input.IsList() || input.IsDict() || input.IsUndefined();
}
bool IsSequence(Context& context, const Value& input, Args args) {
  return input.IsString() || input.IsList() || input.IsDict() || input.IsUndefined();
}
bool IsEqualTo(Context& context, const Value& input, Args args) {
  return Equal(context, input, args[0]);
}
bool IsNotEqualTo(Context& context, const Value& input, Args args) {
  return !Equal(context, input, args[0]);
}
bool IsIn(Context& context, const Value& input, Args args) {
  return Contains(context, args[0], input);
}

constexpr Test kTests[] = {
    {{"defined"}, IsDefined},
    {{"undefined"}, Is<&Value::IsUndefined>},
    {{"none"}, Is<&Value::IsNone>},
    {{"boolean"}, Is<&Value::IsBool>},
    {{"true"}, IsTrue},
    {{"false"}, IsFalse},
    {{"integer"}, Is<&Value::IsInteger>},
    {{"float"}, Is<&Value::IsFloat>},
    {{"number"}, Is<&Value::IsNumber>},
    {{"string"}, Is<&Value::IsString>},
    {{"mapping"}, Is<&Value::IsDict>},
    {{"iterable"}, IsIterable},
    {{"sequence"}, IsSequence},
    {{"odd"}, IsOdd},
    {{"even"}, IsEven},
    {{"divisibleby", {"num"}, 1}, IsDivisibleBy},
    {{"eq", {"other"}, 1}, IsEqualTo},
    {{"equalto", {"other"}, 1}, IsEqualTo},
    {{"ne", {"other"}, 1}, IsNotEqualTo},
    {{"in", {"seq"}, 1}, IsIn},
};

}  // namespace

const Test* FindTest(std::string_view name) {
  const auto* found = std::find_if(std::begin(kTests), std::end(kTests),
                                   [name](const Test& test) { return test.signature.name == name; });
  return found == std::end(kTests) ? nullptr : found;
}

int Compare(Context& context, const Value& a, const Value& b) {
  const auto sign = [](const auto& x, const auto& y) { return x < y ? -1 : y < x ? 1 : 0; };
  if (a.IsString() && b.IsString()) {
    context.Charge(std::min(TextWork(a), TextWork(b)));
    return sign(a.AsString(), b.AsString());
  }
  if (a.IsNumber() && b.IsNumber()) {
    return a.IsFloat() || b.IsFloat() ? sign(a.AsFloat(), b.AsFloat()) : sign(a.AsInteger(), b.AsInteger());
  }
  context.Fail(absl::StrCat("cannot order ", a.TypeName(), " and ", b.TypeName()));
  return 0;
}

bool Equal(Context& context, const Value& a, const Value& b) {
  return context.Charge(std::min(a.Nodes(), b.Nodes()) + std::min(TextWork(a), TextWork(b))) && a == b;
}

bool Contains(Context& context, const Value& container, const Value& item) {
  if (container.IsString() && item.IsString()) {
    return context.Charge(TextWork(container)) && container.AsString().find(item.AsString()) != std::string::npos;
  }
  if (container.IsDict()) return item.IsString() && FindEntry(container.AsDict(), item.AsString()) != nullptr;
  if (container.IsList()) {
    return std::any_of(container.AsList().begin(), container.AsList().end(),
                       [&](const Value& element) { return Equal(context, element, item); });
  }
  if (container.IsUndefined()) return false;
  context.Fail(absl::StrCat("cannot look for ", item.TypeName(), " in ", container.TypeName()));
  return false;
}

Value Context::String(std::string text) {
  if (text.size() > kMaxOutputBytes) {
    return Fail(absl::StrCat("text of ", text.size(), " bytes (at most ", kMaxOutputBytes, ")"));
  }
  if (!Charge(static_cast<std::int64_t>(text.size() / 16))) return {};
  return Value::MakeString(std::move(text));
}

Value Context::MakeList(List items) {
  return Checked(Value::MakeList(std::move(items)));
}
Value Context::MakeDict(Dict entries) {
  return Checked(Value::MakeDict(std::move(entries)));
}

Value Context::Checked(Value value) {
  if (value.Depth() > kMaxValueDepth) return Fail(absl::StrCat("lists nested more than ", kMaxValueDepth, " deep"));
  if (value.Nodes() > kMaxValueNodes) return Fail(absl::StrCat("a list of more than ", kMaxValueNodes, " elements"));
  const auto own = value.IsList() ? value.AsList().size() : value.AsDict().size();
  if (!Charge(static_cast<std::int64_t>(own))) return {};
  return value;
}

}  // namespace megakernel::jinja
