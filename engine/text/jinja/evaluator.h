// Renders a parsed template.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/builtins.h"

namespace megakernel::jinja {

// One rendering; made for one call of Render. Keeps to the limits of limits.h whatever the template does.
class Evaluator final : public Context {
 public:
  // `globals` are the variables that the template sees.
  explicit Evaluator(const Dict& globals);

  // The text that `body` prints, which must outlive the evaluator. InvalidArgument: "line N: ..." for what cannot be
  // computed, or the message that the template gave to raise_exception.
  absl::StatusOr<std::string> Render(const Body& body);

  Value Fail(std::string problem) override;
  bool Charge(std::int64_t work) override;

 private:
  // Names of the template, as views of the parsed template.
  using Scope = std::unordered_map<std::string_view, Value>;
  enum class Flow { kNext, kBreak, kContinue };

  bool ok() const { return status_.ok(); }

  // Statements.
  Flow Run(const Body& body);
  Flow Execute(const Stmt& stmt);
  Flow RunIf(const Stmt& stmt);
  Flow RunFor(const Stmt& stmt);
  void RunSet(const Stmt& stmt);
  void RunSetBlock(const Stmt& stmt);
  void Print(std::string_view text);
  // What `run` prints.
  template <class F>
  std::string Capture(F run);
  void Assign(const std::vector<std::string>& names, const Value& value);
  List Filtered(const Stmt& loop, const List& items);

  // Expressions.
  Value Eval(const Expr& expr);
  Value EvalOptional(const std::unique_ptr<Expr>& expr) { return expr == nullptr ? Value() : Eval(*expr); }
  Value Dispatch(const Expr& expr);
  Value EvalName(const Expr& expr);
  Value EvalList(const Expr& expr);
  Value EvalDict(const Expr& expr);
  Value EvalNamespace(const Expr& expr);
  Value EvalRange(const Expr& expr);
  Value EvalRaise(const Expr& expr);
  Value EvalNow(const Expr& expr);
  Value EvalMacroCall(const Expr& expr);
  // The parameters of a macro, by the arguments of a call and the macro's defaults.
  bool BindArguments(const Expr& call, const Stmt& macro, Scope& arguments);
  Value EvalNegate(const Expr& expr);
  Value EvalBinary(const Expr& expr);
  Value EvalCompare(const Expr& expr);
  Value EvalAttribute(const Expr& expr);
  Value EvalItem(const Expr& expr);
  Value EvalSlice(const Expr& expr);
  Value EvalBuiltin(const Expr& expr);
  bool Holds(std::string_view op, const Value& a, const Value& b);
  Value Add(const Value& a, const Value& b);
  Value Concatenate(const Value& a, const Value& b);
  Value Arithmetic(char op, const Value& a, const Value& b);
  Value IntegerArithmetic(char op, std::int64_t a, std::int64_t b);

  std::vector<Scope> scopes_;  // the innermost last
  std::unordered_map<std::string_view, const Stmt*> macros_;
  int macro_depth_ = 0;
  std::string output_;
  int line_ = 1;
  std::int64_t work_ = 0;
  absl::Status status_;
};

}  // namespace megakernel::jinja
