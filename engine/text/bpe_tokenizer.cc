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
#include "engine/text/nfc.h"
#include "engine/text/utf8.h"

namespace megakernel {
namespace {

using TokenIds = absl::flat_hash_map<std::string_view, TokenId, std::hash<std::string_view>, std::equal_to<>>;

std::string Quoted(std::string_view text) {
  return absl::StrCat("\"", absl::CHexEscape(AbslView(text)), "\"");
}

// Reused over the pieces of a text.
struct Buffers {
  BytePairMerger::Scratch scratch;
  std::vector<std::string_view> words;
  std::vector<AddedTokens::Piece> pieces;
};

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
  // Appends the token's bytes, too.
  absl::Status AddWrittenOut(TokenId token, std::string_view text, AddedTokenFlags flags);
  void IndexWholeWords();
  void EncodePlain(std::string_view text, Buffers& buffers, std::vector<TokenId>& tokens) const;
  void EncodePiece(std::string_view text, bool parse_special, Buffers& buffers, std::vector<TokenId>& tokens) const;

  PreTokenizer rules_;
  std::vector<TokenKind> kinds_;
  std::string bytes_;                // of all tokens, one after the other
  std::vector<std::size_t> begins_;  // by id, and the end of the last
  BytePairMerger merger_;
  AddedTokens added_;
  TokenIds whole_words_;  // views of bytes_; filled only when the rules ask for it
};

absl::Status BpeTokenizer::Build(const BpeVocabulary& vocabulary) {
  rules_ = vocabulary.rules;
  if (vocabulary.kinds.size() != vocabulary.tokens.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(vocabulary.kinds.size(), " token types for ", vocabulary.tokens.size(), " tokens"));
  }
  TokenIds ids;
  if (absl::Status status = AddTokens(vocabulary, ids); !status.ok()) return status;
  if (absl::Status status = AddMerges(vocabulary, ids); !status.ok()) return status;
  if (rules_.whole_words) IndexWholeWords();
  return absl::OkStatus();
}

absl::Status BpeTokenizer::AddTokens(const BpeVocabulary& vocabulary, TokenIds& ids) {
  kinds_ = vocabulary.kinds;
  ids.reserve(kinds_.size());
  begins_.push_back(0);
  const absl::flat_hash_map<TokenId, AddedTokenFlags> flags(vocabulary.flags.begin(), vocabulary.flags.end());
  for (std::size_t i = 0; i < kinds_.size(); ++i) {
    const std::string_view token = vocabulary.tokens[i];
    const auto id = static_cast<TokenId>(i);
    if (token.empty() && kinds_[i] != TokenKind::kUnused) {
      return absl::InvalidArgumentError(absl::StrCat("token ", i, " is empty"));
    }
    const auto [first, is_new] = ids.emplace(token, id);
    if (!is_new && !token.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", i, " repeats token ", first->second, ", ", Quoted(token)));
    }
    const bool written_out = kinds_[i] == TokenKind::kControl || kinds_[i] == TokenKind::kUserDefined;
    if (!written_out) {
      // Tokens outside the alphabet stand for themselves, as in the Hugging Face decoder.
      if (!AppendAlphabetBytes(token, bytes_)) bytes_.append(token);
    } else {
      const auto found = flags.find(id);
      AddedTokenFlags own = found == flags.end() ? AddedTokenFlags{} : found->second;
      own.special = kinds_[i] == TokenKind::kControl;
      if (absl::Status status = AddWrittenOut(id, token, own); !status.ok()) return status;
    }
    begins_.push_back(bytes_.size());
  }
  return absl::OkStatus();
}

absl::Status BpeTokenizer::AddWrittenOut(TokenId token, std::string_view text, AddedTokenFlags flags) {
  if (text.size() > kMaxSpecialTokenBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("special token ", token, " has ", text.size(), " bytes (at most ", kMaxSpecialTokenBytes, ")"));
  }
  // Such a token would take the rest of a run of spaces at each of them: quadratic time.
  if (flags.rstrip && ClassOf(DecodeCodePoint(text, 0).value) == CharClass::kSpace) {
    return absl::InvalidArgumentError(
        absl::StrCat("token ", token, " begins with white space and has the flag rstrip"));
  }
  const std::string sought = flags.normalized && rules_.nfc ? NormalizeNfc(text) : std::string(text);
  added_.Add(token, sought, flags);
  bytes_ += sought;
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
  Buffers buffers;
  std::vector<AddedTokens::Piece> pieces;
  added_.Split(text, /*normalized=*/false, parse_special, pieces);
  for (const AddedTokens::Piece& piece : pieces) {
    if (piece.token >= 0) {
      tokens.push_back(piece.token);
    } else {
      EncodePiece(piece.text, parse_special, buffers, tokens);
    }
  }
  return tokens;
}

// A piece of text as it was written, without tokens that are looked for before normalization.
void BpeTokenizer::EncodePiece(std::string_view text, bool parse_special, Buffers& buffers,
                               std::vector<TokenId>& tokens) const {
  std::string normalized;
  if (rules_.nfc && !IsSurelyNfc(text)) {
    normalized = NormalizeNfc(text);
    text = normalized;
  }
  if (!added_.Any(/*normalized=*/true)) return EncodePlain(text, buffers, tokens);
  buffers.pieces.clear();
  added_.Split(text, /*normalized=*/true, parse_special, buffers.pieces);
  for (const AddedTokens::Piece& piece : buffers.pieces) {
    if (piece.token >= 0) {
      tokens.push_back(piece.token);
    } else {
      EncodePlain(piece.text, buffers, tokens);
    }
  }
}

void BpeTokenizer::EncodePlain(std::string_view text, Buffers& buffers, std::vector<TokenId>& tokens) const {
  buffers.words.clear();
  SplitWords(rules_, text, buffers.words);
  for (const std::string_view word : buffers.words) {
    if (rules_.whole_words) {
      const auto found = whole_words_.find(word);
      if (found != whole_words_.end()) {
        tokens.push_back(found->second);
        continue;
      }
    }
    merger_.Encode(word, buffers.scratch, tokens);
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
