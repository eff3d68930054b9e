#include "engine/text/bpe_tokenizer.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/nfc.h"

namespace megakernel {
namespace {

class BpeTokenizer final : public VocabularyTokenizer {
 public:
  absl::Status Build(const BpeVocabulary& vocabulary);

 private:
  std::string_view Normalize(std::string_view text, std::string& buffer) const override;
  void EncodePlain(std::string_view text, Buffers& buffers, std::vector<TokenId>& tokens) const override;

  absl::Status AddTokens(const BpeVocabulary& vocabulary, TokenIds& ids);
  absl::Status AddToken(TokenId token, TokenKind kind, std::string_view text, AddedTokenFlags flags);
  void IndexWholeWords();

  PreTokenizer rules_;
  BytePairMerger merger_;
  TokenIds whole_words_;  // views of the tokens' bytes; filled only when the rules ask for it
};

absl::Status BpeTokenizer::Build(const BpeVocabulary& vocabulary) {
  rules_ = vocabulary.rules;
  MK_RETURN_IF_ERROR(CheckKinds(vocabulary.kinds, vocabulary.tokens));
  TokenIds ids;
  MK_RETURN_IF_ERROR(AddTokens(vocabulary, ids));
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = ids.find(AlphabetCharacter(static_cast<std::uint8_t>(byte)));
    if (found != ids.end()) merger_.SetByteToken(static_cast<std::uint8_t>(byte), found->second);
  }
  MK_RETURN_IF_ERROR(AddMergeList(vocabulary.merges, ids, merger_));
  if (rules_.whole_words) IndexWholeWords();
  return absl::OkStatus();
}

absl::Status BpeTokenizer::AddTokens(const BpeVocabulary& vocabulary, TokenIds& ids) {
  ids.reserve(vocabulary.tokens.size());
  const absl::flat_hash_map<TokenId, AddedTokenFlags> flags(vocabulary.flags.begin(), vocabulary.flags.end());
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const std::string_view token = vocabulary.tokens[i];
    const TokenKind kind = vocabulary.kinds[i];
    const auto id = static_cast<TokenId>(i);
    if (token.empty() && kind != TokenKind::kUnused) {
      return absl::InvalidArgumentError(absl::StrCat("token ", i, " is empty"));
    }
    const auto [first, is_new] = ids.emplace(token, id);
    if (!is_new && !token.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", i, " repeats token ", first->second, ", ", Quoted(token)));
    }
    const auto found = flags.find(id);
    MK_RETURN_IF_ERROR(AddToken(id, kind, token, found == flags.end() ? AddedTokenFlags{} : found->second));
  }
  return absl::OkStatus();
}

absl::Status BpeTokenizer::AddToken(TokenId token, TokenKind kind, std::string_view text, AddedTokenFlags flags) {
  if (kind == TokenKind::kByte) {
    return absl::InvalidArgumentError(absl::StrCat("token ", token, " is a byte token, in a byte-level vocabulary"));
  }
  if (kind == TokenKind::kControl || kind == TokenKind::kUserDefined) {
    flags.special = kind == TokenKind::kControl;
    const std::string sought = flags.normalized && rules_.nfc ? NormalizeNfc(text) : std::string(text);
    return AddWrittenOut(kind, sought, sought, flags);
  }
  // Tokens outside the alphabet stand for themselves, as in the Hugging Face decoder.
  std::string bytes;
  VocabularyTokenizer::AddToken(kind, AppendAlphabetBytes(text, bytes) ? std::string_view(bytes) : text);
  return absl::OkStatus();
}

void BpeTokenizer::IndexWholeWords() {
  for (TokenId token = 0; token < vocab(); ++token) {
    if (kind(token) == TokenKind::kNormal) whole_words_.emplace(TokenBytes(token, /*skip_special=*/false), token);
  }
}

std::string_view BpeTokenizer::Normalize(std::string_view text, std::string& buffer) const {
  if (!rules_.nfc || IsSurelyNfc(text)) return text;
  buffer = NormalizeNfc(text);
  return buffer;
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

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateBpeTokenizer(const BpeVocabulary& vocabulary) {
  auto tokenizer = std::make_unique<BpeTokenizer>();
  if (absl::Status status = tokenizer->Build(vocabulary); !status.ok()) return status;
  return tokenizer;
}

}  // namespace megakernel
