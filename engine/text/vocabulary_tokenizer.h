// What tokenizers made from a list of tokens have in common: the bytes of each token, and tokens that are written out.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "engine/text/added_tokens.h"
#include "engine/text/byte_pair_merger.h"
#include "engine/text/tokenizer.h"

namespace megakernel {

// What a token of the vocabulary is for.
enum class TokenKind : std::uint8_t {
  kNormal,       // made by merges
  kControl,      // special: marks the structure of a prompt, is not text
  kUserDefined,  // written out as it is and always found before anything is merged
  kUnused,       // never made; may be empty: a row of the embedding without a token
  kByte,         // one byte, written <0x00> to <0xFF>; PieceVocabulary only
};

// The longest special token, in bytes: bounds the look-ahead at each byte of a text.
inline constexpr std::size_t kMaxSpecialTokenBytes = 256;

// Ids by the text that the vocabulary has.
using TokenIds = absl::flat_hash_map<std::string_view, TokenId, std::hash<std::string_view>, std::equal_to<>>;

// `text` in quotes, for messages.
std::string Quoted(std::string_view text);

// InvalidArgument unless there is one kind for each token.
absl::Status CheckKinds(const std::vector<TokenKind>& kinds, const std::vector<std::string_view>& tokens);

// Adds `merges` ("left right", the first merges first). InvalidArgument names a merge that is not two tokens, makes no
// token or appears twice.
absl::Status AddMergeList(const std::vector<std::string_view>& merges, const TokenIds& ids, BytePairMerger& merger);

// Immutable once built; safe to use from many threads.
class VocabularyTokenizer : public Tokenizer {
 public:
  std::vector<TokenId> Encode(std::string_view text, bool parse_special) const final;
  std::string_view TokenBytes(TokenId token, bool skip_special) const final;
  bool IsSpecial(TokenId token) const final { return kinds_[static_cast<std::size_t>(token)] == TokenKind::kControl; }
  std::int32_t vocab() const final { return static_cast<std::int32_t>(kinds_.size()); }

 protected:
  // Reused over the pieces of a text.
  struct Buffers {
    BytePairMerger::Scratch scratch;
    std::vector<std::string_view> words;
    std::vector<AddedTokens::Piece> pieces;
    std::string normalized;
  };

  // For each token in the order of ids: its kind and bytes.
  void AddToken(TokenKind kind, std::string_view bytes);
  // The same for one that is written out, kControl or kUserDefined: it is found as `text`, its bytes are `bytes`.
  // InvalidArgument when it is too long, or takes the space after it and begins with space.
  absl::Status AddWrittenOut(TokenKind kind, std::string_view text, std::string_view bytes, AddedTokenFlags flags);
  TokenKind kind(TokenId token) const { return kinds_[static_cast<std::size_t>(token)]; }

  // `text`, or what it becomes before words are sought, in `buffer`. `text` is not empty.
  virtual std::string_view Normalize(std::string_view text, std::string& buffer) const = 0;
  // Appends the tokens of normalized text without written-out tokens.
  virtual void EncodePlain(std::string_view text, Buffers& buffers, std::vector<TokenId>& tokens) const = 0;

 private:
  void EncodePiece(std::string_view text, bool parse_special, Buffers& buffers, std::vector<TokenId>& tokens) const;

  std::vector<TokenKind> kinds_;
  std::string bytes_;                      // of all tokens, one after the other
  std::vector<std::size_t> begins_ = {0};  // by id, and the end of the last
  AddedTokens added_;
};

}  // namespace megakernel
