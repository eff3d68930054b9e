#include <algorithm>
#include <ctime>
#include <iterator>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/text/jinja/evaluator.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/text_operations.h"

// The part of Evaluator that computes expressions.
namespace megakernel::jinja {
namespace {

// Python's index: negative ones count from the end. False when outside.
bool ResolveIndex(std::int64_t index, std::size_t size, std::size_t& position) {
  const auto length = static_cast<std::int64_t>(size);
  if (index < 0) index += length;
  position = static_cast<std::size_t>(index);
  return index >= 0 && index < length;
}

// The positions of Python's sequence[start:stop:step].
std::vector<std::size_t> SlicePositions(std::size_t size, const Value& start, const Value& stop, std::int64_t step) {
  const auto length = static_cast<std::int64_t>(size);
  const std::int64_t low = step > 0 ? 0 : -1;
  const std::int64_t high = step > 0 ? length : length - 1;
  const auto bound = [&](const Value& value, std::int64_t otherwise) {
    if (!value.IsInteger()) return otherwise;
    const std::int64_t index = value.AsInteger() < 0 ? value.AsInteger() + length : value.AsInteger();
    return std::min(std::max(index, low), high);
  };
  const std::int64_t begin = bound(start, step > 0 ? low : high);
  const std::int64_t end = bound(stop, step > 0 ? high : low);
  std::vector<std::size_t> positions;
  for (std::int64_t i = begin; step > 0 ? i < end : i > end; i += step)
    positions.push_back(static_cast<std::size_t>(i));
  return positions;
}

}  // namespace

Value Evaluator::Eval(const Expr& expr) {
  if (!Charge(1)) return {};
  const int outer_line = std::exchange(line_, expr.line);
  Value value = Dispatch(expr);
  line_ = outer_line;
  return ok() ? value : Value();
}

Value Evaluator::Dispatch(const Expr& expr) {
  const auto operand = [&](std::size_t i) { return Eval(*expr.operands[i]); };
  switch (expr.kind) {
    case ExprKind::kLiteral:
      return expr.literal;
    case ExprKind::kName:
      return EvalName(expr);
    case ExprKind::kList:
      return EvalList(expr);
    case ExprKind::kDict:
      return EvalDict(expr);
    case ExprKind::kNot:
      return Value::MakeBool(!operand(0).Truth());
    case ExprKind::kNegate:
      return EvalNegate(expr);
    case ExprKind::kBinary:
      return EvalBinary(expr);
    case ExprKind::kCompare:
      return EvalCompare(expr);
    case ExprKind::kAnd: {
      const Value left = operand(0);
      return left.Truth() ? operand(1) : left;
    }
    case ExprKind::kOr: {
      const Value left = operand(0);
      return left.Truth() ? left : operand(1);
    }
    case ExprKind::kConditional:
      return operand(1).Truth() ? operand(0) : EvalOptional(expr.operands[2]);
    case ExprKind::kAttribute:
      return EvalAttribute(expr);
    case ExprKind::kItem:
      return EvalItem(expr);
    case ExprKind::kSlice:
      return EvalSlice(expr);
    case ExprKind::kRange:
      return EvalRange(expr);
    case ExprKind::kNamespace:
      return EvalNamespace(expr);
    case ExprKind::kRaise:
      return EvalRaise(expr);
    case ExprKind::kNow:
      return EvalNow(expr);
    case ExprKind::kMacroCall:
      return EvalMacroCall(expr);
    case ExprKind::kMethod:
    case ExprKind::kFilter:
    case ExprKind::kTest:
      return EvalBuiltin(expr);
  }
  return {};
}

Value Evaluator::EvalName(const Expr& expr) {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto found = scope->find(expr.name);
    if (found != scope->end()) return found->second;
  }
  // Functions are defined, and of no use but to be called.
  static constexpr std::string_view kFunctions[] = {"namespace", "range", "raise_exception", "strftime_now"};
  const bool is_function = std::find(std::begin(kFunctions), std::end(kFunctions), expr.name) != std::end(kFunctions);
  return is_function || macros_.contains(expr.name) ? Value::MakeNamespace({}) : Value::MakeUndefined(expr.name);
}

Value Evaluator::EvalList(const Expr& expr) {
  List items;
  for (const auto& operand : expr.operands) {
    items.push_back(Eval(*operand));
    // Namespaces change in place, so one inside a list could come to hold itself.
    if (items.back().IsNamespace()) return Fail("a list cannot hold a namespace");
  }
  return MakeList(std::move(items));
}

Value Evaluator::EvalDict(const Expr& expr) {
  Dict entries;
  for (std::size_t i = 0; i + 1 < expr.operands.size(); i += 2) {
    const Value key = Eval(*expr.operands[i]);
    if (!key.IsString()) return Fail(absl::StrCat("keys are text, not ", key.TypeName()));
    Value value = Eval(*expr.operands[i + 1]);
    if (value.IsNamespace()) return Fail("a dictionary cannot hold a namespace");
    SetEntry(entries, key.AsString(), std::move(value));
  }
  return MakeDict(std::move(entries));
}

Value Evaluator::EvalNamespace(const Expr& expr) {
  Dict fields;
  for (std::size_t i = 0; i < expr.operands.size(); ++i) {
    Value value = Eval(*expr.operands[i]);
    if (value.IsNamespace()) return Fail("a namespace cannot hold a namespace");
    SetEntry(fields, expr.names[i], std::move(value));
  }
  return Value::MakeNamespace(std::move(fields));
}

Value Evaluator::EvalRange(const Expr& expr) {
  std::int64_t bounds[3] = {0, 0, 1};
  const std::size_t count = expr.operands.size();
  for (std::size_t i = 0; i < count; ++i) {
    const Value value = Eval(*expr.operands[i]);
    if (!value.IsInteger()) return Fail(absl::StrCat("range needs integers, not ", value.TypeName()));
    bounds[count == 1 ? 1 : i] = value.AsInteger();
  }
  const auto [start, stop, step] = bounds;
  if (step == 0) return Fail("range needs a step that is not 0");
  for (const std::int64_t bound : bounds) {
    if (bound > kMaxRange || bound < -kMaxRange) {
      return Fail(absl::StrCat("range: ", bound, " is not in ", -kMaxRange, " to ", kMaxRange));
    }
  }
  List items;
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop; i += step) items.push_back(Value::MakeInteger(i));
  return MakeList(std::move(items));
}

Value Evaluator::EvalRaise(const Expr& expr) {
  const Value message = Eval(*expr.operands[0]);
  std::string text;
  AppendText(message, text);
  if (ok()) status_ = absl::InvalidArgumentError(absl::StrCat("the chat template refuses the conversation: ", text));
  return {};
}

// The local time, as Python's datetime.now().strftime().
Value Evaluator::EvalNow(const Expr& expr) {
  constexpr std::size_t kMaxFormatBytes = 100, kMaxTextBytes = 1000;
  const Value format = Eval(*expr.operands[0]);
  if (!format.IsString() || format.AsString().size() > kMaxFormatBytes) {
    return Fail(absl::StrCat("strftime_now needs a format of at most ", kMaxFormatBytes, " bytes"));
  }
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[kMaxTextBytes];
  // A format that gives nothing cannot be told from one that gives too much: both give nothing.
  return String(std::string(text, std::strftime(text, sizeof(text), format.AsString().c_str(), &local)));
}

Value Evaluator::EvalCompare(const Expr& expr) {
  Value left = Eval(*expr.operands[0]);
  for (std::size_t i = 0; i < expr.names.size(); ++i) {
    Value right = Eval(*expr.operands[i + 1]);
    if (!ok() || !Holds(expr.names[i], left, right)) return Value::MakeBool(false);
    left = std::move(right);
  }
  return Value::MakeBool(true);
}

bool Evaluator::Holds(std::string_view op, const Value& a, const Value& b) {
  if (op == "==") return Equal(*this, a, b);
  if (op == "!=") return !Equal(*this, a, b);
  if (op == "in") return Contains(*this, b, a);
  if (op == "not in") return !Contains(*this, b, a);
  const int order = Compare(*this, a, b);
  if (op == "<") return order < 0;
  if (op == "<=") return order <= 0;
  return op == ">" ? order > 0 : order >= 0;
}

Value Evaluator::EvalAttribute(const Expr& expr) {
  const Value object = Eval(*expr.operands[0]);
  if (object.IsUndefined())
    return Fail(absl::StrCat(object.UndefinedName(), " is undefined, so it has no ", expr.name));
  const Dict* fields = object.IsDict()        ? &object.AsDict()
                       : object.IsNamespace() ? &object.AsNamespace().fields
                                              : nullptr;
  if (fields == nullptr || !Charge(static_cast<std::int64_t>(fields->size() / 8)))
    return Value::MakeUndefined(expr.name);
  const Value* found = FindEntry(*fields, expr.name);
  return found != nullptr ? *found : Value::MakeUndefined(expr.name);
}

Value Evaluator::EvalItem(const Expr& expr) {
  const Value object = Eval(*expr.operands[0]);
  const Value key = Eval(*expr.operands[1]);
  if (object.IsUndefined()) return Fail(absl::StrCat(object.UndefinedName(), " is undefined, so it has no items"));
  std::size_t position = 0;
  if (object.IsDict() && key.IsString()) {
    Charge(static_cast<std::int64_t>(object.AsDict().size() / 8));
    const Value* found = FindEntry(object.AsDict(), key.AsString());
    return found != nullptr ? *found : Value::MakeUndefined(key.AsString());
  }
  if (object.IsList() && key.IsInteger()) {
    const bool inside = ResolveIndex(key.AsInteger(), object.AsList().size(), position);
    return inside ? object.AsList()[position] : Value::MakeUndefined("an item past the end");
  }
  if (object.IsString() && key.IsInteger()) {
    if (!Charge(static_cast<std::int64_t>(object.AsString().size()))) return {};
    const std::vector<std::string_view> characters = Characters(object.AsString());
    const bool inside = ResolveIndex(key.AsInteger(), characters.size(), position);
    return inside ? String(std::string(characters[position])) : Value::MakeUndefined("a character past the end");
  }
  return Value::MakeUndefined("an item");
}

Value Evaluator::EvalSlice(const Expr& expr) {
  const Value object = Eval(*expr.operands[0]);
  const Value start = EvalOptional(expr.operands[1]);
  const Value stop = EvalOptional(expr.operands[2]);
  const Value step = EvalOptional(expr.operands[3]);
  const std::int64_t stride = step.IsInteger() ? step.AsInteger() : 1;
  constexpr std::int64_t kMaxStride = std::int64_t{1} << 40;  // far beyond any sequence, and sums cannot overflow
  if (stride == 0 || stride > kMaxStride || stride < -kMaxStride) return Fail("the step of a slice is 0 or too large");
  if (object.IsList()) {
    List items;
    for (const std::size_t i : SlicePositions(object.AsList().size(), start, stop, stride)) {
      items.push_back(object.AsList()[i]);
    }
    return MakeList(std::move(items));
  }
  if (!object.IsString()) return Fail(absl::StrCat("cannot take a slice of ", object.TypeName()));
  if (!Charge(static_cast<std::int64_t>(object.AsString().size()))) return {};
  const std::vector<std::string_view> characters = Characters(object.AsString());
  std::string text;
  for (const std::size_t i : SlicePositions(characters.size(), start, stop, stride)) text += characters[i];
  return String(std::move(text));
}

Value Evaluator::EvalBuiltin(const Expr& expr) {
  const Value input = Eval(*expr.operands[0]);
  Value values[kMaxParameters];
  for (std::size_t i = 1; i < expr.operands.size(); ++i) values[i - 1] = EvalOptional(expr.operands[i]);
  if (!ok()) return {};
  const Args args(values, kMaxParameters);
  if (expr.kind == ExprKind::kTest) return Value::MakeBool(expr.test->holds(*this, input, args) != expr.negated);
  if (expr.kind == ExprKind::kFilter) return expr.filter->apply(*this, input, args);
  if (input.IsUndefined())
    return Fail(absl::StrCat(input.UndefinedName(), " is undefined, so it has no ", expr.name, "()"));
  return expr.method->call(*this, input, args);
}

}  // namespace megakernel::jinja
