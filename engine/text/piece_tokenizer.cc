#include "engine/text/piece_tokenizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/text/utf8.h"

namespace megakernel {
namespace {

constexpr std::uint32_t kSpaceCharacter = 0x2581;
constexpr TokenId kNone = -1;

std::string WithSpaces(std::string_view token) {
  std::string text;
  for (std::size_t i = 0; i < token.size();) {
    if (token.substr(i).starts_with(kPieceSpace)) {
      text += ' ';
      i += kPieceSpace.size();
    } else {
      text += token[i++];
    }
  }
  return text;
}

// Whether a space follows something else in `token`.
bool HasInnerSpace(std::string_view token) {
  bool seen_other = false;
  for (std::size_t i = 0; i < token.size();) {
    const CodePoint c = DecodeCodePoint(token, i);
    if (c.value == kSpaceCharacter && seen_other) return true;
    seen_other = c.value != kSpaceCharacter;
    i += c.bytes;
  }
  return false;
}

class PieceTokenizer final : public VocabularyTokenizer {
 public:
  absl::Status Build(const PieceVocabulary& vocabulary);
  bool strips_leading_space() const override { return strips_space_; }

 private:
  std::string_view Normalize(std::string_view text, std::string& buffer) const override;
  void EncodePlain(std::string_view text, Buffers& buffers, std::vector<TokenId>& tokens) const override;

  absl::Status AddTokens(const PieceVocabulary& vocabulary, TokenIds& ids);
  absl::Status AddScoredMerges(const PieceVocabulary& vocabulary, TokenIds& ids);
  void AddCharacters(const TokenIds& ids);
  void AddSymbols(std::string_view text, CodePoint c, Buffers& buffers) const;
  void Flush(Buffers& buffers, std::vector<TokenId>& tokens) const;

  BytePairMerger merger_;
  std::array<TokenId, 256> byte_tokens_;
  std::array<TokenId, 128> ascii_;                       // kNone: no token
  absl::flat_hash_map<std::uint32_t, TokenId> symbols_;  // of the other characters
  // Characters that are no tokens but parts of some that scores make: symbols vocab(), vocab() + 1, ...
  std::vector<std::string> parts_;
  bool adds_space_ = true;
  bool strips_space_ = true;
  bool cuts_at_spaces_ = true;  // no token has a space inside, so no merge crosses the start of a word
};

absl::Status PieceTokenizer::Build(const PieceVocabulary& vocabulary) {
  adds_space_ = vocabulary.adds_space;
  strips_space_ = vocabulary.strips_space;
  MK_RETURN_IF_ERROR(CheckKinds(vocabulary.kinds, vocabulary.tokens));
  TokenIds ids;
  MK_RETURN_IF_ERROR(AddTokens(vocabulary, ids));
  for (int byte = 0; byte < 256; ++byte) {
    if (byte_tokens_[static_cast<std::size_t>(byte)] == kNone) {
      return absl::InvalidArgumentError(absl::StrCat("there is no token for byte ", byte));
    }
  }
  if (!vocabulary.scores.empty()) {
    MK_RETURN_IF_ERROR(AddScoredMerges(vocabulary, ids));
  } else {
    MK_RETURN_IF_ERROR(AddMergeList(vocabulary.merges, ids, merger_));
  }
  AddCharacters(ids);
  return absl::OkStatus();
}

// `ids` gets what merges may join and make.
absl::Status PieceTokenizer::AddTokens(const PieceVocabulary& vocabulary, TokenIds& ids) {
  byte_tokens_.fill(kNone);
  const absl::flat_hash_map<TokenId, AddedTokenFlags> flags(vocabulary.flags.begin(), vocabulary.flags.end());
  absl::flat_hash_map<std::string_view, std::size_t, std::hash<std::string_view>, std::equal_to<>> seen;
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const std::string_view token = vocabulary.tokens[i];
    const TokenKind kind = vocabulary.kinds[i];
    const auto id = static_cast<TokenId>(i);
    const auto error = [&](const std::string& problem) {
      return absl::InvalidArgumentError(absl::StrCat("token ", i, " ", problem));
    };
    if (token.empty() && kind != TokenKind::kUnused) return error("is empty");
    const auto [first, is_new] = seen.emplace(token, i);
    if (!is_new && !token.empty()) return error(absl::StrCat("repeats token ", first->second, ", ", Quoted(token)));
    if (kind == TokenKind::kByte) {
      const int byte = ByteOfToken(token);
      if (byte < 0) return error(absl::StrCat("is a byte, but ", Quoted(token), " is not <0x00> to <0xFF>"));
      byte_tokens_[static_cast<std::size_t>(byte)] = id;
      AddToken(kind, std::string(1, static_cast<char>(byte)));
    } else if (kind == TokenKind::kControl || kind == TokenKind::kUserDefined) {
      const auto found = flags.find(id);
      AddedTokenFlags own = found == flags.end() ? AddedTokenFlags{} : found->second;
      own.special = kind == TokenKind::kControl;
      std::string buffer;
      const std::string_view sought = own.normalized ? Normalize(token, buffer) : token;
      MK_RETURN_IF_ERROR(AddWrittenOut(kind, sought, WithSpaces(sought), own));
    } else {
      if (token.size() > kMaxPieceBytes) {
        return error(absl::StrCat("has ", token.size(), " bytes (at most ", kMaxPieceBytes, ")"));
      }
      AddToken(kind, WithSpaces(token));
    }
    if (kind == TokenKind::kByte || kind == TokenKind::kControl || token.empty()) continue;
    ids.emplace(token, id);
    cuts_at_spaces_ = cuts_at_spaces_ && !HasInnerSpace(token);
  }
  return absl::OkStatus();
}

absl::Status PieceTokenizer::AddScoredMerges(const PieceVocabulary& vocabulary, TokenIds& ids) {
  const std::vector<float>& scores = vocabulary.scores;
  if (scores.size() != vocabulary.tokens.size()) {
    return absl::InvalidArgumentError(absl::StrCat(scores.size(), " scores for ", vocabulary.tokens.size(), " tokens"));
  }
  const auto bad = std::find_if(scores.begin(), scores.end(), [](float score) { return !std::isfinite(score); });
  if (bad != scores.end()) {
    return absl::InvalidArgumentError(absl::StrCat("the score of token ", bad - scores.begin(), " is not finite"));
  }
  std::vector<float> order = scores;  // equal scores have the same rank
  std::sort(order.begin(), order.end(), std::greater<>());
  order.erase(std::unique(order.begin(), order.end()), order.end());

  const std::vector<std::pair<std::string_view, TokenId>> made(ids.begin(), ids.end());
  for (const auto& [token, id] : made) {
    for (std::size_t i = 0; i < token.size();) {
      const CodePoint c = DecodeCodePoint(token, i);
      const auto symbol = static_cast<TokenId>(vocabulary.tokens.size() + parts_.size());
      if (c.bytes < token.size() && ids.emplace(token.substr(i, c.bytes), symbol).second) {
        parts_.emplace_back(token.substr(i, c.bytes));
      }
      i += c.bytes;
    }
  }
  for (const auto& [token, id] : made) {
    const auto rank = static_cast<std::uint32_t>(
        std::lower_bound(order.begin(), order.end(), scores[static_cast<std::size_t>(id)], std::greater<>()) -
        order.begin());
    for (std::size_t cut = DecodeCodePoint(token, 0).bytes; cut < token.size();) {
      const auto left = ids.find(token.substr(0, cut));
      const auto right = ids.find(token.substr(cut));
      if (left != ids.end() && right != ids.end()) merger_.AddMerge(left->second, right->second, rank, id);
      cut += DecodeCodePoint(token, cut).bytes;
    }
  }
  return absl::OkStatus();
}

void PieceTokenizer::AddCharacters(const TokenIds& ids) {
  ascii_.fill(kNone);
  for (const auto& [token, id] : ids) {
    const CodePoint c = DecodeCodePoint(token, 0);
    if (c.bytes != token.size() || c.value == CodePoint::kInvalid) continue;
    if (c.value < ascii_.size()) {
      ascii_[c.value] = id;
    } else {
      symbols_.emplace(c.value, id);
    }
  }
}

std::string_view PieceTokenizer::Normalize(std::string_view text, std::string& buffer) const {
  std::string normalized(adds_space_ ? kPieceSpace : "");
  normalized.reserve(text.size() + text.size() / 2);
  for (const char c : text) {
    if (c == ' ') {
      normalized += kPieceSpace;
    } else {
      normalized += c;
    }
  }
  buffer = std::move(normalized);
  return buffer;
}

void PieceTokenizer::AddSymbols(std::string_view text, CodePoint c, Buffers& buffers) const {
  TokenId symbol = kNone;
  if (c.value < ascii_.size()) {
    symbol = ascii_[c.value];
  } else if (c.value != CodePoint::kInvalid) {
    const auto found = symbols_.find(c.value);
    if (found != symbols_.end()) symbol = found->second;
  }
  if (symbol != kNone) return buffers.scratch.Add(symbol);
  for (const char byte : text) buffers.scratch.Add(byte_tokens_[static_cast<std::uint8_t>(byte)]);
}

// Merges what was added; parts that were not merged are spelled out.
void PieceTokenizer::Flush(Buffers& buffers, std::vector<TokenId>& tokens) const {
  const std::size_t begin = tokens.size();
  merger_.Merge(buffers.scratch, tokens);
  if (parts_.empty() || std::all_of(tokens.begin() + static_cast<std::ptrdiff_t>(begin), tokens.end(),
                                    [this](TokenId token) { return token < vocab(); })) {
    return;
  }
  const std::vector<TokenId> merged(tokens.begin() + static_cast<std::ptrdiff_t>(begin), tokens.end());
  tokens.resize(begin);
  for (const TokenId token : merged) {
    if (token < vocab()) {
      tokens.push_back(token);
      continue;
    }
    for (const char byte : parts_[static_cast<std::size_t>(token - vocab())]) {
      tokens.push_back(byte_tokens_[static_cast<std::uint8_t>(byte)]);
    }
  }
}

void PieceTokenizer::EncodePlain(std::string_view text, Buffers& buffers, std::vector<TokenId>& tokens) const {
  bool after_space = true;
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeCodePoint(text, i);
    const bool is_space = c.value == kSpaceCharacter;
    if (cuts_at_spaces_ && is_space && !after_space) Flush(buffers, tokens);
    AddSymbols(text.substr(i, c.bytes), c, buffers);
    after_space = is_space;
    i += c.bytes;
  }
  Flush(buffers, tokens);
}

}  // namespace

int ByteOfToken(std::string_view token) {
  constexpr std::string_view kDigits = "0123456789ABCDEFabcdef";
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int byte = 0;
  for (const char c : token.substr(3, 2)) {
    const std::size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return -1;
    byte = byte * 16 + static_cast<int>(digit < 16 ? digit : digit - 6);
  }
  return byte;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> CreatePieceTokenizer(const PieceVocabulary& vocabulary) {
  auto tokenizer = std::make_unique<PieceTokenizer>();
  MK_RETURN_IF_ERROR(tokenizer->Build(vocabulary));
  return tokenizer;
}

}  // namespace megakernel
