#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/text/jinja/evaluator.h"
#include "engine/text/jinja/limits.h"

// The part of Evaluator that adds, joins and divides, with Python's rules.
namespace megakernel::jinja {

Value Evaluator::EvalBinary(const Expr& expr) {
  const Value a = Eval(*expr.operands[0]);
  const Value b = Eval(*expr.operands[1]);
  if (!ok()) return {};
  if (expr.name == "~") return Concatenate(a, b);
  if (expr.name == "+" && !a.IsNumber()) return Add(a, b);
  if (!a.IsNumber() || !b.IsNumber()) {
    return Fail(absl::StrCat("cannot compute ", a.TypeName(), " ", expr.name, " ", b.TypeName()));
  }
  return Arithmetic(expr.name == "//" ? 'q' : expr.name.front(), a, b);
}

Value Evaluator::Add(const Value& a, const Value& b) {
  if (a.IsString() && b.IsString()) {
    if (a.AsString().size() + b.AsString().size() > kMaxOutputBytes) return Fail("the text is too long");
    return String(a.AsString() + b.AsString());
  }
  if (a.IsList() && b.IsList()) {
    List items = a.AsList();
    items.insert(items.end(), b.AsList().begin(), b.AsList().end());
    return MakeList(std::move(items));
  }
  const Value& undefined = a.IsUndefined() ? a : b;
  if (undefined.IsUndefined()) return Fail(absl::StrCat(undefined.UndefinedName(), " is undefined"));
  return Fail(absl::StrCat("cannot add ", a.TypeName(), " and ", b.TypeName()));
}

Value Evaluator::Concatenate(const Value& a, const Value& b) {
  std::string text;
  if (!AppendText(a, text) || !AppendText(b, text)) {
    return Fail(absl::StrCat("cannot join ", a.TypeName(), " and ", b.TypeName(), " as text"));
  }
  return String(std::move(text));
}

Value Evaluator::EvalNegate(const Expr& expr) {
  const Value value = Eval(*expr.operands[0]);
  if (!value.IsNumber()) return Fail(absl::StrCat("cannot negate ", value.TypeName()));
  return Arithmetic('-', Value::MakeInteger(0), value);
}

Value Evaluator::Arithmetic(char op, const Value& a, const Value& b) {
  if (!a.IsFloat() && !b.IsFloat() && op != '/') return IntegerArithmetic(op, a.AsInteger(), b.AsInteger());
  const double x = a.AsFloat();
  const double y = b.AsFloat();
  if ((op == '/' || op == 'q' || op == '%') && y == 0.0) return Fail("division by zero");
  switch (op) {
    case '+':
      return Value::MakeFloat(x + y);
    case '-':
      return Value::MakeFloat(x - y);
    case '*':
      return Value::MakeFloat(x * y);
    case '/':
      return Value::MakeFloat(x / y);
    case 'q':
      return Value::MakeFloat(std::floor(x / y));
    default:
      return Value::MakeFloat(x - y * std::floor(x / y));
  }
}

Value Evaluator::IntegerArithmetic(char op, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool overflow = false;
  if (op == '+') {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == '-') {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == '*') {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (b == 0) {
    return Fail("division by zero");
  } else if (b == -1) {
    overflow = op == 'q' && __builtin_sub_overflow(std::int64_t{0}, a, &result);
  } else {
    // Python rounds down, and its remainder has the sign of the divisor.
    const std::int64_t remainder = a % b;
    const bool adjust = remainder != 0 && (remainder < 0) != (b < 0);
    result = op == 'q' ? a / b - adjust : remainder + (adjust ? b : 0);
  }
  if (overflow) return Fail(absl::StrCat("the result of ", a, " and ", b, " does not fit in 64 bits"));
  return Value::MakeInteger(result);
}

}  // namespace megakernel::jinja
