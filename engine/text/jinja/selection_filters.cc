#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/text/jinja/builtins.h"

// Filters that choose or change the items of a list one by one.
namespace megakernel::jinja {
namespace {

// item.a.b for the path "a.b"; undefined where there is no such thing.
Value Attribute(const Value& item, std::string_view path) {
  Value value = item;
  while (!path.empty()) {
    const std::size_t dot = path.find('.');
    const std::string_view name = path.substr(0, dot);
    const Value* found = value.IsDict() ? FindEntry(value.AsDict(), name) : nullptr;
    if (found == nullptr) return Value::MakeUndefined(std::string(name));
    value = Value(*found);
    path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
  }
  return value;
}

// Keeps items whose value (all of it, or an attribute) passes a test, or does not. Without a test: truth.
Value Choose(Context& context, const Value& input, Args test_args, std::string_view path, bool keep) {
  const Value items = FindFilter("list")->apply(context, input, {});
  if (!items.IsList()) return {};
  const Test* test = nullptr;
  if (test_args[0].IsString()) {
    test = FindTest(test_args[0].AsString());
    if (test == nullptr) return context.Fail(absl::StrCat("the test ", test_args[0].AsString(), " is not supported"));
  }
  Value values[kMaxParameters];
  values[0] = test_args.size() > 1 ? test_args[1] : Value();
  List kept;
  for (const Value& item : items.AsList()) {
    if (!context.Charge(1)) return {};
    const Value value = Attribute(item, path);
    const bool passes = test == nullptr ? value.Truth() : test->holds(context, value, Args(values, kMaxParameters));
    if (passes == keep) kept.push_back(item);
  }
  return context.MakeList(std::move(kept));
}

template <bool kKeep>
Value ApplySelect(Context& context, const Value& input, Args args) {
  return Choose(context, input, args, "", kKeep);
}

template <bool kKeep>
Value ApplySelectAttribute(Context& context, const Value& input, Args args) {
  if (!args[0].IsString()) return context.Fail("selectattr and rejectattr need the name of an attribute");
  return Choose(context, input, args.subspan(1), args[0].AsString(), kKeep);
}

Value ApplyMap(Context& context, const Value& input, Args args) {
  const Value items = FindFilter("list")->apply(context, input, {});
  if (!items.IsList()) return {};
  const Filter* filter = args[0].IsString() ? FindFilter(args[0].AsString()) : nullptr;
  if (filter == nullptr && !args[1].IsString()) return context.Fail("map needs a supported filter or attribute=name");
  if (filter != nullptr && filter->signature.required > 0)
    return context.Fail("map takes filters without arguments only");
  const Value none[kMaxParameters];
  List mapped;
  for (const Value& item : items.AsList()) {
    if (!context.Charge(1)) return {};
    if (filter != nullptr) {
      mapped.push_back(filter->apply(context, item, Args(none, kMaxParameters)));
      continue;
    }
    Value value = Attribute(item, args[1].AsString());
    mapped.push_back(value.IsUndefined() ? args[2] : std::move(value));
  }
  return context.MakeList(std::move(mapped));
}

constexpr Filter kFilters[] = {
    {{"select", {"test", "value"}}, ApplySelect<true>},
    {{"reject", {"test", "value"}}, ApplySelect<false>},
    {{"selectattr", {"attribute", "test", "value"}, 1}, ApplySelectAttribute<true>},
    {{"rejectattr", {"attribute", "test", "value"}, 1}, ApplySelectAttribute<false>},
    {{"map", {"filter", "attribute", "default"}}, ApplyMap},
};

}  // namespace

const Filter* FindSelectionFilter(std::string_view name) {
  const auto* found = std::find_if(std::begin(kFilters), std::end(kFilters),
                                   [name](const Filter& filter) { return filter.signature.name == name; });
  return found == std::end(kFilters) ? nullptr : found;
}

}  // namespace megakernel::jinja
