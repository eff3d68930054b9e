#include "engine/text/jinja/expression_parser.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/text/jinja/limits.h"

namespace megakernel::jinja {

std::unique_ptr<Expr> ExpressionParser::New(ExprKind kind, int line) const {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = line;
  return expr;
}

std::unique_ptr<Expr> ExpressionParser::Finish(Pointer expr) {
  for (const Pointer& operand : expr->operands) {
    if (operand != nullptr) expr->depth = std::max(expr->depth, operand->depth + 1);
  }
  if (expr->depth > kMaxSyntaxDepth) {
    tokens_.Fail(expr->line, absl::StrCat("the expression is nested more than ", kMaxSyntaxDepth, " deep"));
    return New(ExprKind::kLiteral, expr->line);
  }
  return expr;
}

std::unique_ptr<Expr> ExpressionParser::Join(ExprKind kind, int line, Pointer left, Pointer right, std::string name) {
  Pointer expr = New(kind, line);
  expr->name = std::move(name);
  expr->operands.push_back(std::move(left));
  expr->operands.push_back(std::move(right));
  return Finish(std::move(expr));
}

std::unique_ptr<Expr> ExpressionParser::TupleOrExpression() {
  Pointer first = Expression();
  if (!tokens_.AtOperator(",")) return first;
  Pointer list = New(ExprKind::kList, first->line);
  list->operands.push_back(std::move(first));
  while (tokens_.SkipOperator(",")) {
    if (tokens_.At(TokenType::kCloseBlock) || tokens_.At(TokenType::kCloseOutput)) break;
    list->operands.push_back(Expression());
  }
  return Finish(std::move(list));
}

std::unique_ptr<Expr> ExpressionParser::Expression() {
  Pointer value = OrExpression();
  while (tokens_.AtName("if")) {
    Pointer expr = New(ExprKind::kConditional, tokens_.Take().line);
    expr->operands.push_back(std::move(value));
    expr->operands.push_back(OrExpression());
    expr->operands.push_back(tokens_.SkipName("else") ? Expression() : nullptr);
    value = Finish(std::move(expr));
  }
  return value;
}

// Everything that recurses comes through here, so this bounds the parser's own stack.
std::unique_ptr<Expr> ExpressionParser::OrExpression() {
  if (++nesting_ > kMaxSyntaxDepth) {
    tokens_.Fail(tokens_.line(), absl::StrCat("the expression is nested more than ", kMaxSyntaxDepth, " deep"));
  }
  Pointer left = AndExpression();
  while (tokens_.AtName("or")) {
    const int line = tokens_.Take().line;
    left = Join(ExprKind::kOr, line, std::move(left), AndExpression());
  }
  --nesting_;
  return left;
}

std::unique_ptr<Expr> ExpressionParser::AndExpression() {
  Pointer left = NotExpression();
  while (tokens_.AtName("and")) {
    const int line = tokens_.Take().line;
    left = Join(ExprKind::kAnd, line, std::move(left), NotExpression());
  }
  return left;
}

std::unique_ptr<Expr> ExpressionParser::NotExpression() {
  std::vector<int> lines;
  while (tokens_.AtName("not")) lines.push_back(tokens_.Take().line);
  Pointer expr = Comparison();
  for (; !lines.empty(); lines.pop_back()) {
    Pointer negation = New(ExprKind::kNot, lines.back());
    negation->operands.push_back(std::move(expr));
    expr = Finish(std::move(negation));
  }
  return expr;
}

bool ExpressionParser::CompareOperator(std::string& name) {
  static constexpr std::string_view kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
  if (tokens_.SkipName("in")) {
    name = "in";
    return true;
  }
  if (tokens_.AtName("not") && tokens_.next().type == TokenType::kName && tokens_.next().value == "in") {
    tokens_.Take();
    tokens_.Take();
    name = "not in";
    return true;
  }
  for (const std::string_view text : kOperators) {
    if (tokens_.SkipOperator(text)) {
      name = text;
      return true;
    }
  }
  return false;
}

std::unique_ptr<Expr> ExpressionParser::Comparison() {
  Pointer first = Sum();
  std::string name;
  if (!CompareOperator(name)) return first;
  Pointer expr = New(ExprKind::kCompare, first->line);
  expr->operands.push_back(std::move(first));
  do {
    expr->names.push_back(name);
    expr->operands.push_back(Sum());
  } while (CompareOperator(name));
  return Finish(std::move(expr));
}

std::unique_ptr<Expr> ExpressionParser::Sum() {
  Pointer left = Concatenation();
  while (tokens_.AtOperator("+") || tokens_.AtOperator("-")) {
    const Token sign = tokens_.Take();
    left = Join(ExprKind::kBinary, sign.line, std::move(left), Concatenation(), sign.value);
  }
  return left;
}

std::unique_ptr<Expr> ExpressionParser::Concatenation() {
  Pointer left = Product();
  while (tokens_.AtOperator("~")) {
    const int line = tokens_.Take().line;
    left = Join(ExprKind::kBinary, line, std::move(left), Product(), "~");
  }
  return left;
}

std::unique_ptr<Expr> ExpressionParser::Product() {
  const auto at_operator = [this] {
    return tokens_.AtOperator("*") || tokens_.AtOperator("/") || tokens_.AtOperator("//") || tokens_.AtOperator("%");
  };
  Pointer left = Sign(/*with_filters=*/true);
  while (at_operator()) {
    const Token op = tokens_.Take();
    left = Join(ExprKind::kBinary, op.line, std::move(left), Sign(/*with_filters=*/true), op.value);
  }
  if (tokens_.AtOperator("**")) tokens_.Fail(tokens_.line(), "the operator ** is not supported");
  return left;
}

// Filters bind looser than a sign: -1|abs is (-1)|abs.
std::unique_ptr<Expr> ExpressionParser::Sign(bool with_filters) {
  std::vector<Token> signs;
  while (tokens_.AtOperator("-") || tokens_.AtOperator("+")) signs.push_back(tokens_.Take());
  Pointer expr = Postfix(Primary());
  for (; !signs.empty(); signs.pop_back()) {
    if (signs.back().value == "+") continue;
    Pointer negation = New(ExprKind::kNegate, signs.back().line);
    negation->operands.push_back(std::move(expr));
    expr = Finish(std::move(negation));
  }
  return with_filters ? FiltersAndTests(std::move(expr)) : std::move(expr);
}

std::unique_ptr<Expr> ExpressionParser::Primary() {
  if (tokens_.At(TokenType::kName)) return NamedPrimary();
  const int line = tokens_.line();
  Pointer literal = New(ExprKind::kLiteral, line);
  if (tokens_.At(TokenType::kString)) {
    std::string text;
    while (tokens_.At(TokenType::kString)) text += tokens_.Take().value;  // neighbours are one string
    literal->literal = Value::MakeString(std::move(text));
  } else if (tokens_.At(TokenType::kInteger)) {
    const std::string digits = tokens_.Take().value;
    std::int64_t value = 0;
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (result.ec != std::errc()) tokens_.Fail(line, absl::StrCat("the number ", digits, " is more than 2^63"));
    literal->literal = Value::MakeInteger(value);
  } else if (tokens_.At(TokenType::kFloat)) {
    const std::string digits = tokens_.Take().value;
    double value = 0.0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    literal->literal = Value::MakeFloat(value);
  } else if (tokens_.SkipOperator("(")) {
    return Sequence(")", /*always_list=*/false);
  } else if (tokens_.SkipOperator("[")) {
    return Sequence("]", /*always_list=*/true);
  } else if (tokens_.SkipOperator("{")) {
    return Dictionary();
  } else {
    tokens_.Unexpected("an expression");
  }
  return literal;
}

std::unique_ptr<Expr> ExpressionParser::NamedPrimary() {
  const Token name = tokens_.Take();
  Pointer literal = New(ExprKind::kLiteral, name.line);
  if (name.value == "true" || name.value == "True") {
    literal->literal = Value::MakeBool(true);
  } else if (name.value == "false" || name.value == "False") {
    literal->literal = Value::MakeBool(false);
  } else if (name.value == "none" || name.value == "None") {
    literal->literal = Value::MakeNone();
  } else if (tokens_.AtOperator("(")) {
    return FunctionCall(name);
  } else {
    literal->kind = ExprKind::kName;
    literal->name = name.value;
  }
  return literal;
}

// After the opening bracket. (a) is a; (a,) and [a] are lists.
std::unique_ptr<Expr> ExpressionParser::Sequence(std::string_view close, bool always_list) {
  Pointer list = New(ExprKind::kList, tokens_.line());
  bool comma = false;
  while (tokens_.ok() && !tokens_.AtOperator(close)) {
    list->operands.push_back(Expression());
    if (!tokens_.SkipOperator(",")) break;
    comma = true;
  }
  tokens_.ExpectOperator(close);
  if (!always_list && !comma && list->operands.size() == 1) return std::move(list->operands.front());
  return Finish(std::move(list));
}

std::unique_ptr<Expr> ExpressionParser::Dictionary() {
  Pointer dict = New(ExprKind::kDict, tokens_.line());
  while (tokens_.ok() && !tokens_.AtOperator("}")) {
    dict->operands.push_back(Expression());
    tokens_.ExpectOperator(":");
    dict->operands.push_back(Expression());
    if (!tokens_.SkipOperator(",")) break;
  }
  tokens_.ExpectOperator("}");
  if (dict->operands.size() > 2 * kMaxEntries) {
    tokens_.Fail(dict->line, absl::StrCat("a dictionary of more than ", kMaxEntries, " entries"));
  }
  return Finish(std::move(dict));
}

std::unique_ptr<Expr> ExpressionParser::Postfix(Pointer expr) {
  while (tokens_.ok()) {
    if (tokens_.SkipOperator("[")) {
      expr = Subscript(std::move(expr));
    } else if (tokens_.SkipOperator(".")) {
      if (!tokens_.At(TokenType::kName)) tokens_.Unexpected("a name after '.'");
      const Token name = tokens_.Take();
      if (tokens_.AtOperator("(")) {
        expr = MethodCall(std::move(expr), name);
        continue;
      }
      Pointer attribute = New(ExprKind::kAttribute, name.line);
      attribute->name = name.value;
      attribute->operands.push_back(std::move(expr));
      expr = Finish(std::move(attribute));
    } else if (tokens_.AtOperator("(")) {
      tokens_.Fail(tokens_.line(), "only functions and methods can be called");
    } else {
      break;
    }
  }
  return expr;
}

// After '[': an index, or a slice with up to three parts.
std::unique_ptr<Expr> ExpressionParser::Subscript(Pointer expr) {
  const int line = tokens_.line();
  Pointer parts[3];
  int count = 0;
  if (!tokens_.AtOperator(":")) parts[0] = Expression();
  while (count < 2 && tokens_.SkipOperator(":")) {
    ++count;
    if (!tokens_.AtOperator(":") && !tokens_.AtOperator("]")) parts[count] = Expression();
  }
  tokens_.ExpectOperator("]");
  if (count == 0) return Join(ExprKind::kItem, line, std::move(expr), std::move(parts[0]));
  Pointer slice = New(ExprKind::kSlice, line);
  slice->operands.push_back(std::move(expr));
  for (Pointer& part : parts) slice->operands.push_back(std::move(part));
  return Finish(std::move(slice));
}

}  // namespace megakernel::jinja
