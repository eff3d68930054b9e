// The tokens of a template while they are parsed, with the first error met.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/absl_view.h"
#include "engine/text/jinja/lexer.h"

namespace megakernel::jinja {

// After a Fail it stands at the end, so that every loop of a parser comes to its end as well.
class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[position_]; }
  const Token& next() const { return tokens_[position_ + (position_ + 1 < tokens_.size())]; }
  int line() const { return current().line; }
  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }

  Token Take() {
    Token token = current();
    if (position_ + 1 < tokens_.size()) ++position_;
    return token;
  }

  bool At(TokenType type) const { return current().type == type; }
  bool AtOperator(std::string_view text) const { return At(TokenType::kOperator) && current().value == text; }
  bool AtName(std::string_view text) const { return At(TokenType::kName) && current().value == text; }

  bool SkipOperator(std::string_view text) { return AtOperator(text) && (Take(), true); }
  bool SkipName(std::string_view text) { return AtName(text) && (Take(), true); }

  void Expect(TokenType type, std::string_view what) {
    if (!At(type)) return Unexpected(what);
    Take();
  }

  void ExpectOperator(std::string_view text) {
    if (!SkipOperator(text)) Unexpected(absl::StrCat("'", AbslView(text), "'"));
  }

  std::string ExpectName(std::string_view what) {
    if (At(TokenType::kName)) return Take().value;
    Unexpected(what);
    return {};
  }

  void Unexpected(std::string_view wanted) {
    const bool named = At(TokenType::kName) || At(TokenType::kOperator) || At(TokenType::kInteger);
    Fail(line(), absl::StrCat("expected ", AbslView(wanted), named ? ", not " : "", named ? current().value : ""));
  }

  void Fail(int line, std::string_view problem) {
    if (status_.ok()) status_ = LineError(line, problem);
    position_ = tokens_.size() - 1;
  }

 private:
  std::vector<Token> tokens_;
  std::size_t position_ = 0;
  absl::Status status_;
};

}  // namespace megakernel::jinja
