// Parses one expression of a template.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/builtins.h"
#include "engine/text/jinja/token_stream.h"

namespace megakernel::jinja {

// Jinja's precedence: if-else, or, and, not, comparisons, + -, ~, * / // %, sign, then postfix, filters and tests.
// Functions never return null; after an error, which `tokens` keeps, they return some expression.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  std::unique_ptr<Expr> Expression();
  // Without the if-else form, for the sequence of a for statement, where "if" filters.
  std::unique_ptr<Expr> OrExpression();
  // From here on `name` may be called.
  void AddMacro(const std::string& name) { macros_.insert(name); }
  // Expression, or several with commas: a list.
  std::unique_ptr<Expr> TupleOrExpression();

 private:
  using Pointer = std::unique_ptr<Expr>;

  Pointer New(ExprKind kind, int line) const;
  // Notes how deep the tree is and refuses one that is too deep to walk.
  Pointer Finish(Pointer expr);
  Pointer Join(ExprKind kind, int line, Pointer left, Pointer right, std::string name = "");

  Pointer AndExpression();
  Pointer NotExpression();
  Pointer Comparison();
  Pointer Sum();
  Pointer Concatenation();
  Pointer Product();
  Pointer Sign(bool with_filters);
  Pointer Primary();
  Pointer NamedPrimary();
  Pointer Sequence(std::string_view close, bool always_list);
  Pointer Dictionary();
  Pointer Postfix(Pointer expr);
  Pointer Subscript(Pointer expr);
  Pointer MethodCall(Pointer self, const Token& name);
  Pointer FunctionCall(const Token& name);
  Pointer FiltersAndTests(Pointer expr);
  Pointer FilterCall(Pointer input);
  Pointer TestCall(Pointer input);
  // "(a, name=b)" into the operands of `call`, one for each parameter.
  void Arguments(const Signature& signature, Expr& call);
  bool CompareOperator(std::string& name);

  TokenStream& tokens_;
  int nesting_ = 0;  // of Expression calls
  std::unordered_set<std::string> macros_;
};

}  // namespace megakernel::jinja
