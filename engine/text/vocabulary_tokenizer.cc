#include "engine/text/vocabulary_tokenizer.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/absl_view.h"
#include "engine/text/utf8.h"

namespace megakernel {

std::string Quoted(std::string_view text) {
  return absl::StrCat("\"", absl::CHexEscape(AbslView(text)), "\"");
}

absl::Status CheckKinds(const std::vector<TokenKind>& kinds, const std::vector<std::string_view>& tokens) {
  if (kinds.size() == tokens.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(kinds.size(), " token types for ", tokens.size(), " tokens"));
}

absl::Status AddMergeList(const std::vector<std::string_view>& merges, const TokenIds& ids, BytePairMerger& merger) {
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const std::string_view merge = merges[i];
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
    if (!merger.AddMerge(left_id->second, right_id->second, static_cast<std::uint32_t>(i), result_id->second)) {
      return error("appears twice");
    }
  }
  return absl::OkStatus();
}

void VocabularyTokenizer::AddToken(TokenKind kind, std::string_view bytes) {
  kinds_.push_back(kind);
  bytes_ += bytes;
  begins_.push_back(bytes_.size());
}

absl::Status VocabularyTokenizer::AddWrittenOut(TokenKind kind, std::string_view text, std::string_view bytes,
                                                AddedTokenFlags flags) {
  const TokenId token = vocab();
  if (text.size() > kMaxSpecialTokenBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("special token ", token, " has ", text.size(), " bytes (at most ", kMaxSpecialTokenBytes, ")"));
  }
  // Such a token would take the rest of a run of spaces at each of them: quadratic time.
  if (flags.rstrip && ClassOf(DecodeCodePoint(text, 0).value) == CharClass::kSpace) {
    return absl::InvalidArgumentError(
        absl::StrCat("token ", token, " begins with white space and has the flag rstrip"));
  }
  added_.Add(token, text, flags);
  AddToken(kind, bytes);
  return absl::OkStatus();
}

std::vector<TokenId> VocabularyTokenizer::Encode(std::string_view text, bool parse_special) const {
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
void VocabularyTokenizer::EncodePiece(std::string_view text, bool parse_special, Buffers& buffers,
                                      std::vector<TokenId>& tokens) const {
  text = Normalize(text, buffers.normalized);
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

std::string_view VocabularyTokenizer::TokenBytes(TokenId token, bool skip_special) const {
  if (skip_special && IsSpecial(token)) return {};
  const auto index = static_cast<std::size_t>(token);
  return std::string_view(bytes_).substr(begins_[index], begins_[index + 1] - begins_[index]);
}

}  // namespace megakernel
