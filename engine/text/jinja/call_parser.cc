#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/absl_view.h"
#include "engine/text/jinja/expression_parser.h"
#include "engine/text/jinja/limits.h"

// The parts of ExpressionParser that read calls: functions, methods, filters and tests.
namespace megakernel::jinja {
namespace {

int NumParameters(const Signature& signature) {
  int count = 0;
  while (count < kMaxParameters && !signature.parameters[count].empty()) ++count;
  return count;
}

}  // namespace

void ExpressionParser::Arguments(const Signature& signature, Expr& call) {
  const int num_parameters = NumParameters(signature);
  const std::size_t first = call.operands.size();
  for (int i = 0; i < num_parameters; ++i) call.operands.push_back(nullptr);
  if (!tokens_.SkipOperator("(")) {
    if (signature.required > 0) tokens_.Fail(call.line, absl::StrCat(AbslView(signature.name), " needs arguments"));
    return;
  }
  int position = 0;
  while (tokens_.ok() && !tokens_.AtOperator(")")) {
    int parameter = position++;
    if (tokens_.At(TokenType::kName) && tokens_.next().type == TokenType::kOperator && tokens_.next().value == "=") {
      const Token name = tokens_.Take();
      tokens_.Take();
      parameter = 0;
      while (parameter < num_parameters && signature.parameters[parameter] != name.value) ++parameter;
      if (parameter == num_parameters) {
        return tokens_.Fail(name.line, absl::StrCat(AbslView(signature.name), " has no argument ", name.value));
      }
    }
    if (parameter >= num_parameters || call.operands[first + static_cast<std::size_t>(parameter)] != nullptr) {
      return tokens_.Fail(call.line, absl::StrCat(AbslView(signature.name), " takes at most ", num_parameters,
                                                  " arguments, each once"));
    }
    call.operands[first + static_cast<std::size_t>(parameter)] = Expression();
    if (!tokens_.SkipOperator(",")) break;
  }
  tokens_.ExpectOperator(")");
  for (int i = 0; i < signature.required; ++i) {
    if (call.operands[first + static_cast<std::size_t>(i)] == nullptr) {
      tokens_.Fail(call.line, absl::StrCat(AbslView(signature.name), " needs ", signature.required, " arguments"));
    }
  }
}

std::unique_ptr<Expr> ExpressionParser::MethodCall(Pointer self, const Token& name) {
  Pointer call = New(ExprKind::kMethod, name.line);
  call->name = name.value;
  call->operands.push_back(std::move(self));
  call->method = FindMethod(name.value);
  if (call->method == nullptr) {
    tokens_.Fail(name.line, absl::StrCat("the method ", name.value, " is not supported"));
    return New(ExprKind::kLiteral, name.line);
  }
  Arguments(call->method->signature, *call);
  return Finish(std::move(call));
}

std::unique_ptr<Expr> ExpressionParser::FunctionCall(const Token& name) {
  Pointer call = New(ExprKind::kLiteral, name.line);
  tokens_.ExpectOperator("(");
  if (name.value == "namespace") {
    call->kind = ExprKind::kNamespace;
  } else if (name.value == "range") {
    call->kind = ExprKind::kRange;
  } else if (name.value == "raise_exception") {
    call->kind = ExprKind::kRaise;
  } else if (name.value == "strftime_now") {
    call->kind = ExprKind::kNow;
  } else if (macros_.contains(name.value)) {
    call->kind = ExprKind::kMacroCall;
    call->name = name.value;
  } else {
    tokens_.Fail(name.line, absl::StrCat("the function ", name.value, " is not supported"));
  }
  while (tokens_.ok() && !tokens_.AtOperator(")")) {
    if (call->kind == ExprKind::kNamespace) {
      call->names.push_back(tokens_.ExpectName("name=value"));
      tokens_.ExpectOperator("=");
    } else if (call->kind == ExprKind::kMacroCall) {
      const bool named =
          tokens_.At(TokenType::kName) && tokens_.next().type == TokenType::kOperator && tokens_.next().value == "=";
      call->names.push_back(named ? tokens_.Take().value : "");
      if (named) tokens_.Take();
    }
    call->operands.push_back(Expression());
    if (!tokens_.SkipOperator(",")) break;
  }
  tokens_.ExpectOperator(")");
  const std::size_t count = call->operands.size();
  if (call->kind == ExprKind::kRange && (count < 1 || count > 3))
    tokens_.Fail(name.line, "range needs 1 to 3 arguments");
  if (call->kind == ExprKind::kNow && count != 1) tokens_.Fail(name.line, "strftime_now needs one argument");
  if (call->kind == ExprKind::kRaise && count != 1) tokens_.Fail(name.line, "raise_exception needs one argument");
  if (count > kMaxEntries) tokens_.Fail(name.line, absl::StrCat("more than ", kMaxEntries, " arguments"));
  return Finish(std::move(call));
}

std::unique_ptr<Expr> ExpressionParser::FiltersAndTests(Pointer expr) {
  while (tokens_.ok()) {
    if (tokens_.SkipOperator("|")) {
      expr = FilterCall(std::move(expr));
    } else if (tokens_.SkipName("is")) {
      expr = TestCall(std::move(expr));
    } else {
      break;
    }
  }
  return expr;
}

std::unique_ptr<Expr> ExpressionParser::FilterCall(Pointer input) {
  const int line = tokens_.line();
  Pointer call = New(ExprKind::kFilter, line);
  call->name = tokens_.ExpectName("the name of a filter");
  call->operands.push_back(std::move(input));
  call->filter = FindFilter(call->name);
  if (call->filter == nullptr) {
    tokens_.Fail(line, absl::StrCat("the filter ", call->name, " is not supported"));
    return New(ExprKind::kLiteral, line);
  }
  Arguments(call->filter->signature, *call);
  return Finish(std::move(call));
}

std::unique_ptr<Expr> ExpressionParser::TestCall(Pointer input) {
  const int line = tokens_.line();
  Pointer call = New(ExprKind::kTest, line);
  call->negated = tokens_.SkipName("not");
  call->name = tokens_.ExpectName("the name of a test");
  call->operands.push_back(std::move(input));
  call->test = FindTest(call->name);
  if (call->test == nullptr) {
    tokens_.Fail(line, absl::StrCat("the test ", call->name, " is not supported"));
    return New(ExprKind::kLiteral, line);
  }
  const Signature& signature = call->test->signature;
  if (signature.required == 1 && !tokens_.AtOperator("(")) {
    call->operands.push_back(Sign(/*with_filters=*/false));  // "is divisibleby 3"
  } else {
    Arguments(signature, *call);
  }
  return Finish(std::move(call));
}

}  // namespace megakernel::jinja
