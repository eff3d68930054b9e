#include "engine/text/jinja/evaluator.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/text/jinja/lexer.h"
#include "engine/text/jinja/limits.h"

namespace megakernel::jinja {
namespace {

// The variable "loop" of a for statement.
Value LoopFacts(const List& items, std::size_t index) {
  const auto integer = [](std::size_t value) { return Value::MakeInteger(static_cast<std::int64_t>(value)); };
  const std::size_t left = items.size() - index;
  const bool first = index == 0;
  const bool last = left == 1;
  return Value::MakeDict({{"index", integer(index + 1)},
                          {"index0", integer(index)},
                          {"revindex", integer(left)},
                          {"revindex0", integer(left - 1)},
                          {"first", Value::MakeBool(first)},
                          {"last", Value::MakeBool(last)},
                          {"length", integer(items.size())},
                          {"previtem", first ? Value::MakeUndefined("loop.previtem") : items[index - 1]},
                          {"nextitem", last ? Value::MakeUndefined("loop.nextitem") : items[index + 1]}});
}

}  // namespace

Evaluator::Evaluator(const Dict& globals) : scopes_(1) {
  for (const auto& [name, value] : globals) scopes_.front().emplace(name, value);
}

absl::StatusOr<std::string> Evaluator::Render(const Body& body) {
  Run(body);
  if (!ok()) return status_;
  return std::move(output_);
}

Value Evaluator::Fail(std::string problem) {
  if (ok()) status_ = LineError(line_, problem);
  return {};
}

bool Evaluator::Charge(std::int64_t work) {
  work_ += work;
  if (work_ > kMaxWork) Fail(absl::StrCat("the template does more than ", kMaxWork, " steps"));
  return ok();
}

Evaluator::Flow Evaluator::Run(const Body& body) {
  for (const Stmt& stmt : body) {
    line_ = stmt.line;
    if (!Charge(1)) return Flow::kNext;
    const Flow flow = Execute(stmt);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Evaluator::Flow Evaluator::Execute(const Stmt& stmt) {
  switch (stmt.kind) {
    case StmtKind::kText:
      Print(stmt.text);
      return Flow::kNext;
    case StmtKind::kOutput: {
      const Value value = Eval(*stmt.exprs[0]);
      std::string text;
      if (!AppendText(value, text)) Fail(absl::StrCat("cannot print ", value.TypeName(), "; tojson can"));
      Print(text);
      return Flow::kNext;
    }
    case StmtKind::kIf:
      return RunIf(stmt);
    case StmtKind::kFor:
      return RunFor(stmt);
    case StmtKind::kSet:
      RunSet(stmt);
      return Flow::kNext;
    case StmtKind::kSetBlock:
      RunSetBlock(stmt);
      return Flow::kNext;
    case StmtKind::kScope: {
      scopes_.emplace_back();
      const Flow flow = Run(stmt.bodies[0]);
      scopes_.pop_back();
      return flow;
    }
    case StmtKind::kMacro:
      macros_[stmt.attribute] = &stmt;
      return Flow::kNext;
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Evaluator::Flow Evaluator::RunIf(const Stmt& stmt) {
  for (std::size_t i = 0; i < stmt.exprs.size(); ++i) {
    const bool holds = Eval(*stmt.exprs[i]).Truth();
    if (!ok()) return Flow::kNext;
    if (holds) return Run(stmt.bodies[i]);
  }
  return stmt.bodies.size() > stmt.exprs.size() ? Run(stmt.bodies.back()) : Flow::kNext;
}

List Evaluator::Filtered(const Stmt& loop, const List& items) {
  if (!Charge(static_cast<std::int64_t>(items.size())) || loop.exprs[1] == nullptr) return items;
  List kept;
  scopes_.emplace_back();
  for (const Value& item : items) {
    Assign(loop.names, item);
    if (Eval(*loop.exprs[1]).Truth()) kept.push_back(item);
    if (!ok()) break;
  }
  scopes_.pop_back();
  return kept;
}

Evaluator::Flow Evaluator::RunFor(const Stmt& stmt) {
  const Value sequence = FindFilter("list")->apply(*this, Eval(*stmt.exprs[0]), {});
  if (!ok()) return Flow::kNext;
  const List items = Filtered(stmt, sequence.AsList());
  if (items.empty() && stmt.bodies.size() > 1) return Run(stmt.bodies[1]);
  scopes_.emplace_back();
  for (std::size_t i = 0; i < items.size() && ok(); ++i) {
    scopes_.back().clear();  // what an iteration sets ends with it
    Assign(stmt.names, items[i]);
    scopes_.back()["loop"] = LoopFacts(items, i);
    if (Run(stmt.bodies[0]) == Flow::kBreak) break;
  }
  scopes_.pop_back();
  return Flow::kNext;
}

void Evaluator::Assign(const std::vector<std::string>& names, const Value& value) {
  if (names.size() == 1) {
    scopes_.back()[names.front()] = value;
    return;
  }
  if (!value.IsList() || value.AsList().size() != names.size()) {
    Fail(absl::StrCat("cannot take ", value.TypeName(), " apart into ", names.size(), " names"));
    return;
  }
  for (std::size_t i = 0; i < names.size(); ++i) scopes_.back()[names[i]] = value.AsList()[i];
}

void Evaluator::RunSet(const Stmt& stmt) {
  const Value value = Eval(*stmt.exprs[0]);
  if (!ok()) return;
  if (stmt.attribute.empty()) return Assign(stmt.names, value);
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto found = scope->find(stmt.names.front());
    if (found == scope->end()) continue;
    if (!found->second.IsNamespace()) break;
    if (value.IsNamespace()) {
      Fail("a namespace cannot hold a namespace");
      return;
    }
    Dict& fields = found->second.AsNamespace().fields;
    SetEntry(fields, stmt.attribute, value);
    if (fields.size() > kMaxEntries) Fail(absl::StrCat("a namespace of more than ", kMaxEntries, " fields"));
    return;
  }
  Fail(absl::StrCat(stmt.names.front(), " is not a namespace, so ", stmt.attribute, " cannot be set"));
}

void Evaluator::RunSetBlock(const Stmt& stmt) {
  std::string text = Capture([&] { Run(stmt.bodies[0]); });
  scopes_.back()[stmt.names.front()] = String(std::move(text));
}

template <class F>
std::string Evaluator::Capture(F run) {
  std::string outer = std::exchange(output_, {});
  run();
  return std::exchange(output_, std::move(outer));
}

bool Evaluator::BindArguments(const Expr& call, const Stmt& macro, Scope& arguments) {
  for (std::size_t i = 0; i < call.operands.size(); ++i) {
    const bool named = !call.names[i].empty();
    const auto parameter =
        named ? static_cast<std::size_t>(std::find(macro.names.begin(), macro.names.end(), call.names[i]) -
                                         macro.names.begin())
              : i;
    if (parameter >= macro.names.size()) {
      Fail(absl::StrCat("the macro ", macro.attribute, " has no such argument"));
      return false;
    }
    if (!arguments.emplace(macro.names[parameter], Eval(*call.operands[i])).second) {
      Fail(absl::StrCat("the macro ", macro.attribute, " gets ", macro.names[parameter], " twice"));
    }
  }
  return ok();
}

Value Evaluator::EvalMacroCall(const Expr& expr) {
  const auto found = macros_.find(expr.name);
  if (found == macros_.end()) return Fail(absl::StrCat("the macro ", expr.name, " is not defined yet"));
  const Stmt& macro = *found->second;
  Scope arguments;
  if (!BindArguments(expr, macro, arguments)) return {};
  if (macro_depth_ == kMaxMacroDepth) return Fail(absl::StrCat("macros nested more than ", kMaxMacroDepth, " deep"));
  ++macro_depth_;
  // A macro sees the top level of the template and its own parameters.
  std::vector<Scope> callers(std::make_move_iterator(scopes_.begin() + 1), std::make_move_iterator(scopes_.end()));
  scopes_.resize(1);
  scopes_.push_back(std::move(arguments));
  for (std::size_t i = 0; i < macro.names.size(); ++i) {
    if (scopes_.back().contains(macro.names[i])) continue;
    Value value = macro.exprs[i] == nullptr ? Value::MakeUndefined(macro.names[i]) : Eval(*macro.exprs[i]);
    scopes_.back()[macro.names[i]] = std::move(value);
  }
  std::string text = Capture([&] { Run(macro.bodies[0]); });
  scopes_.resize(1);
  std::move(callers.begin(), callers.end(), std::back_inserter(scopes_));
  --macro_depth_;
  return String(std::move(text));
}

void Evaluator::Print(std::string_view text) {
  if (!Charge(static_cast<std::int64_t>(text.size() / 16))) return;
  if (text.size() > kMaxOutputBytes - output_.size()) {
    Fail(absl::StrCat("the template prints more than ", kMaxOutputBytes, " bytes"));
    return;
  }
  output_ += text;
}

}  // namespace megakernel::jinja
