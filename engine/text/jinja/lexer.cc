#include "engine/text/jinja/lexer.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/absl_view.h"
#include "engine/text/jinja/string_literal.h"

namespace megakernel::jinja {
namespace {

constexpr std::string_view kSpaces = " \t\n\v\f\r";
// Longest first, so that "//" is not two slashes.
constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<",
                                           ">",  "=",  "(",  ")",  "[",  "]",  "{", "}", ".", ",", ":", "|"};

bool IsNameStart(char c) {
  return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_';
}
bool IsDigit(char c) {
  return absl::ascii_isdigit(static_cast<unsigned char>(c));
}
bool IsNamePart(char c) {
  return IsNameStart(c) || IsDigit(c);
}

// Every kind of line end as '\n', without the last one.
std::string NormalizeLineEnds(std::string_view source) {
  std::string text;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (status_.ok() && position_ < source_.size()) Text();
    Emit(TokenType::kEnd, "");
    if (!status_.ok()) return status_;
    return std::move(tokens_);
  }

 private:
  bool At(std::string_view text) const { return std::string_view(source_).substr(position_).starts_with(text); }
  char Peek(std::size_t offset = 0) const {
    return position_ + offset < source_.size() ? source_[position_ + offset] : '\0';
  }

  void Move(std::size_t bytes) {
    const auto begin = source_.begin() + static_cast<std::ptrdiff_t>(position_);
    line_ += static_cast<int>(std::count(begin, begin + static_cast<std::ptrdiff_t>(bytes), '\n'));
    position_ += bytes;
  }

  void Emit(TokenType type, std::string value) { tokens_.push_back({type, std::move(value), line_}); }

  void Fail(std::string_view problem) {
    if (status_.ok()) status_ = LineError(line_, problem);
  }

  // Text up to the next tag, then the tag.
  void Text() {
    std::size_t tag = position_;
    while ((tag = source_.find('{', tag)) != std::string::npos) {
      const char kind = tag + 1 < source_.size() ? source_[tag + 1] : '\0';
      if (kind == '{' || kind == '%' || kind == '#') break;
      ++tag;
    }
    const std::size_t end = std::min(tag, source_.size());
    std::string_view text = std::string_view(source_).substr(position_, end - position_);
    if (end < source_.size()) text = StripBeforeTag(text, end);
    if (!text.empty()) Emit(TokenType::kText, std::string(text));
    Move(end - position_);
    if (position_ < source_.size()) Tag();
  }

  std::string_view StripBeforeTag(std::string_view text, std::size_t tag) const {
    const char control = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    if (control == '-') return text.substr(0, text.find_last_not_of(kSpaces) + 1);
    if (control == '+' || source_[tag + 1] == '{') return text;
    // Blanks between the start of the line and the tag.
    const std::size_t line_end = text.rfind('\n');
    const std::size_t begin = line_end == std::string_view::npos ? 0 : line_end + 1;
    const std::size_t before = position_ + begin;
    const bool starts_line = before == 0 || source_[before - 1] == '\n';
    if (starts_line && text.find_first_not_of(kSpaces, begin) == std::string_view::npos) return text.substr(0, begin);
    return text;
  }

  void Tag() {
    const char kind = Peek(1);
    const bool has_control = Peek(2) == '-' || Peek(2) == '+';
    if (kind == '#') return Comment();
    Emit(kind == '{' ? TokenType::kOpenOutput : TokenType::kOpenBlock, "");
    // "{{+" is no white-space control: the plus belongs to the expression.
    Move(kind == '{' && Peek(2) == '+' ? 2 : 2 + has_control);
    const std::string_view close = kind == '{' ? "}}" : "%}";
    depth_ = 0;
    while (status_.ok()) {
      SkipSpaces();
      if (position_ == source_.size()) return Fail(absl::StrCat("the tag is not closed by ", AbslView(close)));
      if (depth_ == 0 && CloseTag(close)) return;
      Lexeme();
    }
  }

  // True when the tag ended here.
  bool CloseTag(std::string_view close) {
    const char control = Peek();
    const bool has_control = control == '-' || (control == '+' && close == "%}");
    if (!std::string_view(source_).substr(position_ + has_control).starts_with(close)) return false;
    Emit(close == "}}" ? TokenType::kCloseOutput : TokenType::kCloseBlock, "");
    Move(2 + has_control);
    TrimAfter(has_control ? control : '\0', close != "}}");
    return true;
  }

  void TrimAfter(char control, bool trims_line_end) {
    if (control == '-') {
      SkipSpaces();
    } else if (control != '+' && trims_line_end && Peek() == '\n') {
      Move(1);
    }
  }

  void SkipSpaces() {
    const std::size_t end = source_.find_first_not_of(kSpaces, position_);
    Move((end == std::string::npos ? source_.size() : end) - position_);
  }

  void Comment() {
    const std::size_t begin = position_ + 2 + (Peek(2) == '-' || Peek(2) == '+');
    const std::size_t end = source_.find("#}", begin);
    if (end == std::string::npos) return Fail("the comment is not closed by #}");
    const char last = end > begin ? source_[end - 1] : '\0';
    Move(end + 2 - position_);
    TrimAfter(last, true);
  }

  void Lexeme() {
    const char c = Peek();
    if (IsNameStart(c)) {
      std::size_t length = 1;
      while (IsNamePart(Peek(length))) ++length;
      Take(TokenType::kName, length);
    } else if (IsDigit(c)) {
      Number();
    } else if (c == '"' || c == '\'') {
      String();
    } else {
      Operator();
    }
  }

  void Take(TokenType type, std::size_t length) {
    Emit(type, source_.substr(position_, length));
    Move(length);
  }

  void Number() {
    std::size_t length = Digits(0);
    TokenType type = TokenType::kInteger;
    if (Peek(length) == '.' && IsDigit(Peek(length + 1))) {
      type = TokenType::kFloat;
      length = Digits(length + 1);
    }
    if (Peek(length) == 'e' || Peek(length) == 'E') {
      const std::size_t sign = Peek(length + 1) == '-' || Peek(length + 1) == '+';
      if (IsDigit(Peek(length + 1 + sign))) {
        type = TokenType::kFloat;
        length = Digits(length + 1 + sign);
      }
    }
    if (IsNamePart(Peek(length))) return Fail("numbers are decimal digits, with or without a point and an exponent");
    Take(type, length);
  }

  // Where the digits at `offset` end.
  std::size_t Digits(std::size_t offset) const {
    while (IsDigit(Peek(offset))) ++offset;
    return offset;
  }

  void String() {
    const char quote = Peek();
    std::size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return Fail("the string is not closed");
    const std::string_view body = std::string_view(source_).substr(position_ + 1, end - position_ - 1);
    std::string value;
    if (!ResolveEscapes(body, value)) return Fail("a \\ escape in the string is malformed");
    Emit(TokenType::kString, std::move(value));
    Move(end + 1 - position_);
  }

  void Operator() {
    const auto* found =
        std::find_if(std::begin(kOperators), std::end(kOperators), [this](auto text) { return At(text); });
    if (found == std::end(kOperators)) {
      return Fail(absl::StrCat("unexpected character '", absl::CHexEscape(source_.substr(position_, 1)), "'"));
    }
    const char c = found->front();
    if (c == '(' || c == '[' || c == '{') ++depth_;
    if (c == ')' || c == ']' || c == '}') --depth_;
    if (depth_ < 0) return Fail(absl::StrCat("'", AbslView(*found), "' closes nothing"));
    Take(TokenType::kOperator, found->size());
  }

  std::string source_;
  std::size_t position_ = 0;
  int line_ = 1;
  int depth_ = 0;  // open brackets of the current tag
  std::vector<Token> tokens_;
  absl::Status status_;
};

}  // namespace

absl::Status LineError(int line, std::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("line ", line, ": ", AbslView(problem)));
}

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source) {
  return Lexer(NormalizeLineEnds(source)).Run();
}

}  // namespace megakernel::jinja
