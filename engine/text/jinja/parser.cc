#include "engine/text/jinja/parser.h"

#include <initializer_list>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/text/jinja/expression_parser.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/token_stream.h"

namespace megakernel::jinja {
namespace {

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)), expressions_(tokens_) {}

  absl::StatusOr<Body> Run() {
    Body body = Statements({});
    if (tokens_.ok() && !tokens_.At(TokenType::kEnd)) tokens_.Unexpected("the end of the template");
    if (!tokens_.ok()) return tokens_.status();
    return body;
  }

 private:
  static Stmt New(StmtKind kind, int line) {
    Stmt stmt;
    stmt.kind = kind;
    stmt.line = line;
    return stmt;
  }

  // Statements up to a block that begins with one of `ends`, which is left at its name; without `ends`, to the end.
  Body Statements(std::initializer_list<std::string_view> ends) {
    Body body;
    if (++nesting_ > kMaxSyntaxDepth) {
      tokens_.Fail(tokens_.line(), absl::StrCat("statements nested more than ", kMaxSyntaxDepth, " deep"));
    }
    while (!tokens_.At(TokenType::kEnd)) {
      if (tokens_.At(TokenType::kText)) {
        body.push_back(New(StmtKind::kText, tokens_.line()));
        body.back().text = tokens_.Take().value;
      } else if (tokens_.At(TokenType::kOpenOutput)) {
        body.push_back(New(StmtKind::kOutput, tokens_.Take().line));
        body.back().exprs.push_back(expressions_.TupleOrExpression());
        tokens_.Expect(TokenType::kCloseOutput, "'}}'");
      } else {
        tokens_.Expect(TokenType::kOpenBlock, "a statement");
        for (const std::string_view end : ends) {
          if (!tokens_.AtName(end)) continue;
          --nesting_;
          return body;
        }
        body.push_back(Statement());
      }
    }
    if (ends.size() > 0)
      tokens_.Fail(tokens_.line(), absl::StrCat("the template ends before ", std::string(*(ends.end() - 1))));
    --nesting_;
    return body;
  }

  Stmt Statement() {
    const int line = tokens_.line();
    const std::string name = tokens_.ExpectName("the name of a statement");
    if (name == "if") return If(line);
    if (name == "for") return For(line);
    if (name == "set") return Set(line);
    if (name == "generation") return Generation(line);
    if (name == "macro" && nesting_ == 1) return Macro(line);
    if ((name == "break" || name == "continue") && loops_ > 0) {
      CloseBlock();
      return New(name == "break" ? StmtKind::kBreak : StmtKind::kContinue, line);
    }
    if (tokens_.ok()) tokens_.Fail(line, absl::StrCat("the statement ", name, " is not supported here"));
    return New(StmtKind::kText, line);
  }

  void CloseBlock() { tokens_.Expect(TokenType::kCloseBlock, "'%}'"); }

  Stmt If(int line) {
    Stmt stmt = New(StmtKind::kIf, line);
    bool more = true;
    while (more && tokens_.ok()) {
      stmt.exprs.push_back(expressions_.TupleOrExpression());
      CloseBlock();
      stmt.bodies.push_back(Statements({"elif", "else", "endif"}));
      more = tokens_.SkipName("elif");
    }
    if (tokens_.SkipName("else")) {
      CloseBlock();
      stmt.bodies.push_back(Statements({"endif"}));
    }
    tokens_.SkipName("endif");
    CloseBlock();
    return stmt;
  }

  // "a" or "a, b" or "(a, b)".
  void Targets(Stmt& stmt) {
    const bool bracket = tokens_.SkipOperator("(");
    do {
      stmt.names.push_back(tokens_.ExpectName("a name"));
    } while (tokens_.SkipOperator(","));
    if (bracket) tokens_.ExpectOperator(")");
  }

  Stmt For(int line) {
    Stmt stmt = New(StmtKind::kFor, line);
    Targets(stmt);
    if (!tokens_.SkipName("in")) tokens_.Unexpected("in");
    stmt.exprs.push_back(expressions_.OrExpression());
    stmt.exprs.push_back(tokens_.SkipName("if") ? expressions_.Expression() : nullptr);
    if (tokens_.AtName("recursive")) tokens_.Fail(line, "recursive loops are not supported");
    CloseBlock();
    ++loops_;
    stmt.bodies.push_back(Statements({"else", "endfor"}));
    --loops_;
    if (tokens_.SkipName("else")) {
      CloseBlock();
      stmt.bodies.push_back(Statements({"endfor"}));
    }
    tokens_.SkipName("endfor");
    CloseBlock();
    return stmt;
  }

  Stmt Set(int line) {
    Stmt stmt = New(StmtKind::kSet, line);
    Targets(stmt);
    if (tokens_.SkipOperator(".")) {
      if (stmt.names.size() != 1) tokens_.Fail(line, "only one attribute can be set at a time");
      stmt.attribute = tokens_.ExpectName("a name");
    }
    if (tokens_.SkipOperator("=")) {
      stmt.exprs.push_back(expressions_.TupleOrExpression());
      CloseBlock();
      return stmt;
    }
    stmt.kind = StmtKind::kSetBlock;
    if (stmt.names.size() != 1 || !stmt.attribute.empty()) tokens_.Unexpected("'='");
    CloseBlock();
    stmt.bodies.push_back(Statements({"endset"}));
    tokens_.SkipName("endset");
    CloseBlock();
    return stmt;
  }

  // Marks, in training, what the model said; prints its body.
  Stmt Generation(int line) {
    Stmt stmt = New(StmtKind::kScope, line);
    CloseBlock();
    stmt.bodies.push_back(Statements({"endgeneration"}));
    tokens_.SkipName("endgeneration");
    CloseBlock();
    return stmt;
  }

  // At the top level of the template only, so that what a macro sees does not depend on where it is called.
  Stmt Macro(int line) {
    Stmt stmt = New(StmtKind::kMacro, line);
    stmt.attribute = tokens_.ExpectName("the name of a macro");
    tokens_.ExpectOperator("(");
    while (tokens_.ok() && !tokens_.AtOperator(")")) {
      stmt.names.push_back(tokens_.ExpectName("the name of a parameter"));
      stmt.exprs.push_back(tokens_.SkipOperator("=") ? expressions_.Expression() : nullptr);
      if (!tokens_.SkipOperator(",")) break;
    }
    tokens_.ExpectOperator(")");
    CloseBlock();
    expressions_.AddMacro(stmt.attribute);  // it may call itself
    const int outer_loops = std::exchange(loops_, 0);
    stmt.bodies.push_back(Statements({"endmacro"}));
    loops_ = outer_loops;
    tokens_.SkipName("endmacro");
    CloseBlock();
    return stmt;
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int nesting_ = 0;
  int loops_ = 0;  // open for statements
};

}  // namespace

absl::StatusOr<Body> Parse(std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the template has ", source.size(), " bytes (at most ", kMaxSourceBytes, ")"));
  }
  absl::StatusOr<std::vector<Token>> tokens = Tokenize(source);
  if (!tokens.ok()) return tokens.status();
  return Parser(*std::move(tokens)).Run();
}

}  // namespace megakernel::jinja
