#include "engine/text/pre_tokenizer.h"

#include <algorithm>

#include "engine/text/utf8.h"

namespace megakernel {
namespace {

struct NamedRules {
  std::string_view name;
  PreTokenizer rules;
};

constexpr NamedRules kTable[] = {
    {"gpt-2", {.style = WordStyle::kGpt2}},
    {"smollm", {.style = WordStyle::kGpt2, .isolate_numbers = true}},
    {"llama-bpe", {.style = WordStyle::kGpt4, .max_digits = 3, .whole_words = true}},
    {"qwen2", {.style = WordStyle::kGpt4, .nfc = true}},
};

struct Expression {
  std::string_view text;
  WordStyle style;
  std::int32_t max_digits;
};

constexpr Expression kExpressions[] = {
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", WordStyle::kGpt2, 1},
    {R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", WordStyle::kGpt2, 1},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     WordStyle::kGpt4, 1},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     WordStyle::kGpt4, 3},
};

constexpr std::uint32_t kLongS = 0x17f;  // folds to 's', so (?i:'s) takes it too

// A piece of text as characters; remembers the one at the current position.
class Scanner {
 public:
  Scanner(const PreTokenizer& rules, std::string_view text) : rules_(rules), text_(text) { Load(); }

  bool done() const { return position_ == text_.size(); }

  std::string_view Next() {
    const std::size_t begin = position_;
    if (rules_.style == WordStyle::kGpt2) {
      SkipGpt2Word();
    } else {
      SkipGpt4Word();
    }
    return text_.substr(begin, position_ - begin);
  }

 private:
  void Load() {
    if (done()) {
      char_ = {CodePoint::kInvalid, 0};
      class_ = CharClass::kOther;
      return;
    }
    char_ = DecodeCodePoint(text_, position_);
    class_ = ClassOf(char_.value);
  }

  void Move(std::size_t position) {
    position_ = position;
    Load();
  }

  void Advance() { Move(position_ + char_.bytes); }

  bool At(CharClass wanted) const { return !done() && class_ == wanted; }
  bool AtLineEnd() const { return !done() && (char_.value == '\r' || char_.value == '\n'); }

  void SkipRun(CharClass wanted) {
    while (At(wanted)) Advance();
  }

  // 's 't 're 've 'm 'll 'd. True when one was skipped.
  bool SkipContraction(bool any_case) {
    if (char_.value != '\'') return false;
    const auto letter = [&](std::size_t i) -> char {
      if (i >= text_.size()) return '\0';
      const char c = text_[i];
      return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    const std::size_t next = position_ + 1;
    const char first = letter(next);
    const char second = letter(next + 1);
    const bool pair =
        (first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l');
    if (first == 's' || first == 't' || first == 'm' || first == 'd') {
      Move(next + 1);
    } else if (pair) {
      Move(next + 2);
    } else if (any_case && next < text_.size() && DecodeCodePoint(text_, next).value == kLongS) {
      Move(next + 2);
    } else {
      return false;
    }
    return true;
  }

  // \s+(?!\S)|\s+ : all of the run at the end of the text, else all but its last character, which joins the next word.
  void SkipSpaces() {
    const std::size_t begin = position_;
    std::size_t last = position_;
    while (At(CharClass::kSpace)) {
      last = position_;
      Advance();
    }
    if (!done() && last > begin) Move(last);
  }

  void SkipGpt2Word() {
    if (SkipContraction(/*any_case=*/false)) return;
    const std::size_t begin = position_;
    if (char_.value == ' ') {
      Advance();
      if (done() || class_ == CharClass::kSpace) {
        Move(begin);
        SkipSpaces();
        return;
      }
    }
    if (class_ == CharClass::kSpace) {
      SkipSpaces();
    } else {
      SkipRun(class_);
    }
  }

  void SkipGpt4Word() {
    if (SkipContraction(/*any_case=*/true)) return;
    if (SkipLettersWithPrefix()) return;
    if (At(CharClass::kNumber)) {
      for (std::int32_t i = 0; i < rules_.max_digits && At(CharClass::kNumber); ++i) Advance();
      return;
    }
    const std::size_t begin = position_;
    if (char_.value == ' ') Advance();
    if (At(CharClass::kOther)) {
      SkipRun(CharClass::kOther);
      while (AtLineEnd()) Advance();
      return;
    }
    Move(begin);
    if (!SkipThroughLastLineEnd()) SkipSpaces();
  }

  // [^\r\n\p{L}\p{N}]?\p{L}+
  bool SkipLettersWithPrefix() {
    const std::size_t begin = position_;
    if (class_ != CharClass::kLetter && class_ != CharClass::kNumber && !AtLineEnd()) Advance();
    if (!At(CharClass::kLetter)) {
      Move(begin);
      return false;
    }
    SkipRun(CharClass::kLetter);
    return true;
  }

  // \s*[\r\n]+ : up to the last line end of the run of spaces.
  bool SkipThroughLastLineEnd() {
    const std::size_t begin = position_;
    std::size_t end = begin;
    while (At(CharClass::kSpace)) {
      const bool line_end = AtLineEnd();
      Advance();
      if (line_end) end = position_;
    }
    Move(end);
    return end > begin;
  }

  const PreTokenizer& rules_;
  std::string_view text_;
  std::size_t position_ = 0;
  CodePoint char_{};
  CharClass class_ = CharClass::kOther;
};

void SplitPiece(const PreTokenizer& rules, std::string_view text, std::vector<std::string_view>& words) {
  Scanner scanner(rules, text);
  while (!scanner.done()) words.push_back(scanner.Next());
}

}  // namespace

const PreTokenizer* FindPreTokenizer(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(kTable), std::end(kTable), [name](const auto& row) { return row.name == name; });
  return found == std::end(kTable) ? nullptr : &found->rules;
}

bool FindWordStyle(std::string_view expression, PreTokenizer& rules) {
  const auto* found = std::find_if(std::begin(kExpressions), std::end(kExpressions),
                                   [expression](const auto& row) { return row.text == expression; });
  if (found == std::end(kExpressions)) return false;
  rules.style = found->style;
  rules.max_digits = found->max_digits;
  return true;
}

std::string PreTokenizerNames() {
  std::string names;
  for (const NamedRules& row : kTable) names.append(names.empty() ? "" : ", ").append(row.name);
  return names;
}

void SplitWords(const PreTokenizer& rules, std::string_view text, std::vector<std::string_view>& words) {
  if (!rules.isolate_numbers) return SplitPiece(rules, text, words);
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeCodePoint(text, i);
    if (ClassOf(c.value) == CharClass::kNumber) {
      SplitPiece(rules, text.substr(begin, i - begin), words);
      words.push_back(text.substr(i, c.bytes));
      begin = i + c.bytes;
    }
    i += c.bytes;
  }
  SplitPiece(rules, text.substr(begin), words);
}

}  // namespace megakernel
