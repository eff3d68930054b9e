#include "engine/text/bpe_tokenizer.h"

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/absl_view.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/byte_pair_merger.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/token_trie.h"

namespace megakernel {
namespace {

using TokenIds = absl::flat_hash_map<std::string_view, TokenId, std::hash<std::string_view>, std::equal_to<>>;

std::string Quoted(std::string_view text) {
  return absl::StrCat("\"", absl::CHexEscape(AbslView(text)), "\"");
}

class BpeTokenizer final : public Tokenizer {
 public:
  std::vector<TokenId> Encode(std::string_view text, bool parse_special) const override;
  std::string_view TokenBytes(TokenId token, bool skip_special) const override;
  bool IsSpecial(TokenId token) const override {
    return kinds_[static_cast<std::size_t>(token)] == TokenKind::kControl;
  }
  std::int32_t vocab() const override { return static_cast<std::int32_t>(kinds_.size()); }

  absl::Status Build(const BpeVocabulary& vocabulary);

 private:
  absl::Status AddTokens(const BpeVocabulary& vocabulary, TokenIds& ids);
  absl::Status AddMerges(const BpeVocabulary& vocabulary, const TokenIds& ids);
  void IndexWholeWords();
  void EncodePlain(std::string_view text, BytePairMerger::Scratch& scratch, std::vector<std::string_view>& words,
                   std::vector<TokenId>& tokens) const;

  const PreTokenizer* rules_ = nullptr;
  std::vector<TokenKind> kinds_;
  std::string bytes_;                // of all tokens, one after the other
  std::vector<std::size_t> begins_;  // by id, and the end of the last
  BytePairMerger merger_;
  TokenTrie written_out_;
  TokenIds whole_words_;  // views of bytes_; filled only when the rules ask for it
};

absl::Status BpeTokenizer::Build(const BpeVocabulary& vocabulary) {
  rules_ = FindPreTokenizer(vocabulary.pre_tokenizer);
  if (rules_ == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("pre-tokenizer ", Quoted(vocabulary.pre_tokenizer),
                                                   " is not supported (", PreTokenizerNames(), ")"));
  }
  if (rules_->normalized) {
    return absl::InvalidArgumentError(
        absl::StrCat("pre-tokenizer ", Quoted(vocabulary.pre_tokenizer),
                     " needs text in Unicode's form C (NFC), which is not supported yet"));
  }
  if (vocabulary.kinds.size() != vocabulary.tokens.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(vocabulary.kinds.size(), " token types for ", vocabulary.tokens.size(), " tokens"));
  }
  TokenIds ids;
  if (absl::Status status = AddTokens(vocabulary, ids); !status.ok()) return status;
  if (absl::Status status = AddMerges(vocabulary, ids); !status.ok()) return status;
  if (rules_->whole_words) IndexWholeWords();
  return absl::OkStatus();
}

absl::Status BpeTokenizer::AddTokens(const BpeVocabulary& vocabulary, TokenIds& ids) {
  kinds_ = vocabulary.kinds;
  ids.reserve(kinds_.size());
  begins_.push_back(0);
  for (std::size_t i = 0; i < kinds_.size(); ++i) {
    const std::string_view token = vocabulary.tokens[i];
    const auto id = static_cast<TokenId>(i);
    if (token.empty()) return absl::InvalidArgumentError(absl::StrCat("token ", i, " is empty"));
    const auto [first, is_new] = ids.emplace(token, id);
    if (!is_new) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", i, " repeats token ", first->second, ", ", Quoted(token)));
    }
    const bool written_out = kinds_[i] == TokenKind::kControl || kinds_[i] == TokenKind::kUserDefined;
    if (written_out && token.size() > kMaxSpecialTokenBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("special token ", i, " has ", token.size(), " bytes (at most ", kMaxSpecialTokenBytes, ")"));
    }
    if (written_out) written_out_.Add(token, id, kinds_[i] == TokenKind::kControl);
    // Tokens outside the alphabet stand for themselves, as in the Hugging Face decoder.
    if (written_out || !AppendAlphabetBytes(token, bytes_)) bytes_.append(token);
    begins_.push_back(bytes_.size());
  }
  return absl::OkStatus();
}

absl::Status BpeTokenizer::AddMerges(const BpeVocabulary& vocabulary, const TokenIds& ids) {
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = ids.find(AlphabetCharacter(static_cast<std::uint8_t>(byte)));
    if (found != ids.end()) merger_.SetByteToken(static_cast<std::uint8_t>(byte), found->second);
  }
  for (std::size_t i = 0; i < vocabulary.merges.size(); ++i) {
    const std::string_view merge = vocabulary.merges[i];
    const auto error = [&](std::string_view problem) {
      return absl::InvalidArgumentError(absl::StrCat("merge ", i, " ", Quoted(merge), " ", AbslView(problem)));
    };
    const std::size_t space = merge.find(' ');
    if (space == std::string_view::npos || merge.find(' ', space + 1) != std::string_view::npos) {
      return error("is not two tokens with a space between");
    }
    const std::string_view left = merge.substr(0, space);
    const std::string_view right = merge.substr(space + 1);
    const auto left_id = ids.find(left);
    const auto right_id = ids.find(right);
    const auto result_id = ids.find(std::string(left).append(right));
    if (left_id == ids.end() || right_id == ids.end()) return error("joins something that is not in the vocabulary");
    if (result_id == ids.end()) return error("makes a token that is not in the vocabulary");
    if (!merger_.AddMerge(left_id->second, right_id->second, result_id->second)) return error("appears twice");
  }
  return absl::OkStatus();
}

void BpeTokenizer::IndexWholeWords() {
  for (TokenId token = 0; token < vocab(); ++token) {
    if (kinds_[static_cast<std::size_t>(token)] == TokenKind::kNormal) {
      whole_words_.emplace(TokenBytes(token, /*skip_special=*/false), token);
    }
  }
}

std::vector<TokenId> BpeTokenizer::Encode(std::string_view text, bool parse_special) const {
  std::vector<TokenId> tokens;
  std::vector<std::string_view> words;
  BytePairMerger::Scratch scratch;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size();) {
    const TokenTrie::Match match = written_out_.Longest(text, i, parse_special);
    if (match.token < 0) {
      ++i;
      continue;
    }
    EncodePlain(text.substr(begin, i - begin), scratch, words, tokens);
    tokens.push_back(match.token);
    i += match.bytes;
    begin = i;
  }
  EncodePlain(text.substr(begin), scratch, words, tokens);
  return tokens;
}

void BpeTokenizer::EncodePlain(std::string_view text, BytePairMerger::Scratch& scratch,
                               std::vector<std::string_view>& words, std::vector<TokenId>& tokens) const {
  words.clear();
  SplitWords(*rules_, text, words);
  for (const std::string_view word : words) {
    if (rules_->whole_words) {
      const auto found = whole_words_.find(word);
      if (found != whole_words_.end()) {
        tokens.push_back(found->second);
        continue;
      }
    }
    merger_.Encode(word, scratch, tokens);
  }
}

std::string_view BpeTokenizer::TokenBytes(TokenId token, bool skip_special) const {
  if (skip_special && IsSpecial(token)) return {};
  const auto index = static_cast<std::size_t>(token);
  return std::string_view(bytes_).substr(begins_[index], begins_[index + 1] - begins_[index]);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateBpeTokenizer(const BpeVocabulary& vocabulary) {
  auto tokenizer = std::make_unique<BpeTokenizer>();
  if (absl::Status status = tokenizer->Build(vocabulary); !status.ok()) return status;
  return tokenizer;
}

}  // namespace megakernel
