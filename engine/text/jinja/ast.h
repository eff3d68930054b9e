// A parsed template.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/text/jinja/value.h"

namespace megakernel::jinja {

struct Filter;
struct Test;
struct Method;

enum class ExprKind : std::uint8_t {
  kLiteral,      // literal
  kName,         // name
  kList,         // operands = items; tuples too
  kDict,         // operands = key, value, key, value, ...
  kNot,          // operands[0]
  kNegate,       // operands[0]
  kBinary,       // name = + - * / // % ~; operands[0], operands[1]
  kCompare,      // operators between operands, all of which must hold: == != < <= > >= in, "not in"
  kAnd,          // operands[0], operands[1]
  kOr,           // operands[0], operands[1]
  kConditional,  // operands = value, condition, otherwise (may be missing)
  kAttribute,    // operands[0].name
  kItem,         // operands[0][operands[1]]
  kSlice,        // operands[0][operands[1]:operands[2]:operands[3]], each may be null
  kRange,        // range(operands...)
  kNamespace,    // namespace(names[i]=operands[i], ...)
  kRaise,        // raise_exception(operands[0])
  kNow,          // strftime_now(operands[0])
  kMacroCall,    // name(operands...); names[i] is the parameter of operands[i], "" for the next one in order
  kMethod,       // operands[0].method(operands[1]...), missing arguments null
  kFilter,       // operands[0]|filter(operands[1]...), missing arguments null
  kTest,         // operands[0] is test(operands[1]), or "is not" when negated
};

struct Expr {
  ExprKind kind = ExprKind::kLiteral;
  bool negated = false;
  int line = 1;
  int depth = 1;  // of the tree below, for the bound on recursion
  std::string name;
  Value literal;
  std::vector<std::string> names;
  std::vector<std::unique_ptr<Expr>> operands;
  const Filter* filter = nullptr;
  const Test* test = nullptr;
  const Method* method = nullptr;
};

enum class StmtKind : std::uint8_t {
  kText,      // text
  kOutput,    // exprs[0]
  kIf,        // exprs[i] guards bodies[i]; one more body is the else branch
  kFor,       // names in exprs[0], where exprs[1] (may be null) holds: bodies[0], or bodies[1] when there is none
  kSet,       // names = exprs[0], or names[0].attribute = exprs[0]
  kSetBlock,  // names[0] = what bodies[0] prints
  kScope,     // bodies[0]
  kMacro,     // attribute = its name, names = parameters, exprs = their defaults (may be null): bodies[0]
  kBreak,
  kContinue,
};

struct Stmt {
  StmtKind kind = StmtKind::kText;
  int line = 1;
  std::string text;
  std::string attribute;
  std::vector<std::string> names;
  std::vector<std::unique_ptr<Expr>> exprs;
  std::vector<std::vector<Stmt>> bodies;
};

using Body = std::vector<Stmt>;

}  // namespace megakernel::jinja
