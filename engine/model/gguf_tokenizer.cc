#include "engine/model/gguf_tokenizer.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/absl_view.h"
#include "engine/base/status_macros.h"
#include "engine/text/bpe_tokenizer.h"
#include "engine/text/piece_tokenizer.h"
#include "engine/text/pre_tokenizer.h"

namespace megakernel {
namespace {

constexpr const char* kTokensKey = "tokenizer.ggml.tokens";
constexpr const char* kTypesKey = "tokenizer.ggml.token_type";

// llama.cpp's numbers (enum llama_token_type).
enum class FileTokenType : std::int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

absl::StatusOr<std::vector<TokenKind>> ReadKinds(const GgufFile& file, std::size_t num_tokens) {
  absl::StatusOr<std::vector<std::int32_t>> types = file.GetIntegers(kTypesKey);
  if (!types.ok()) return types.status();
  if (types->size() != num_tokens) {
    return file.Error(kTypesKey, absl::StrCat(types->size(), " types for the ", num_tokens, " tokens"));
  }
  std::vector<TokenKind> kinds;
  kinds.reserve(num_tokens);
  for (std::size_t i = 0; i < num_tokens; ++i) {
    switch (static_cast<FileTokenType>((*types)[i])) {
      case FileTokenType::kNormal:
        kinds.push_back(TokenKind::kNormal);
        break;
      case FileTokenType::kUnknown:
      case FileTokenType::kControl:
        kinds.push_back(TokenKind::kControl);
        break;
      case FileTokenType::kUserDefined:
        kinds.push_back(TokenKind::kUserDefined);
        break;
      case FileTokenType::kUnused:
        kinds.push_back(TokenKind::kUnused);
        break;
      case FileTokenType::kByte:
        kinds.push_back(TokenKind::kByte);
        break;
      default:
        return file.Error(kTypesKey, absl::StrCat("token ", i, " has type ", (*types)[i], " (1 to 6)"));
    }
  }
  return kinds;
}

absl::StatusOr<bool> AddsSpace(const GgufFile& file, bool when_absent) {
  constexpr const char* kKey = "tokenizer.ggml.add_space_prefix";
  return file.Has(kKey) ? file.GetBool(kKey) : when_absent;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadBytePairs(const GgufFile& file, std::vector<std::string_view> tokens,
                                                         std::vector<TokenKind> kinds) {
  MK_ASSIGN_OR_RETURN(const bool adds_space, AddsSpace(file, false));
  if (adds_space) return file.Error("tokenizer.ggml.add_space_prefix", "true is not supported with gpt2");
  MK_ASSIGN_OR_RETURN(const std::string_view pre, file.GetString("tokenizer.ggml.pre"));
  const PreTokenizer* rules = FindPreTokenizer(pre);
  if (rules == nullptr) {
    return file.Error("tokenizer.ggml.pre", absl::StrCat("pre-tokenizer \"", AbslView(pre), "\" is not supported (",
                                                         PreTokenizerNames(), ")"));
  }
  MK_ASSIGN_OR_RETURN(std::vector<std::string_view> merges, file.GetStrings("tokenizer.ggml.merges"));
  return CreateBpeTokenizer(
      {.tokens = std::move(tokens), .kinds = std::move(kinds), .merges = std::move(merges), .rules = *rules});
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadPieces(const GgufFile& file, std::vector<std::string_view> tokens,
                                                      std::vector<TokenKind> kinds) {
  MK_ASSIGN_OR_RETURN(const bool adds_space, AddsSpace(file, true));
  MK_ASSIGN_OR_RETURN(std::vector<float> scores, file.GetFloats("tokenizer.ggml.scores"));
  if (scores.empty()) return file.Error("tokenizer.ggml.scores", "is empty");
  return CreatePieceTokenizer({.tokens = std::move(tokens),
                               .kinds = std::move(kinds),
                               .scores = std::move(scores),
                               .adds_space = adds_space,
                               .strips_space = adds_space});
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadGgufTokenizer(const GgufFile& file) {
  MK_ASSIGN_OR_RETURN(const std::string_view model, file.GetString("tokenizer.ggml.model"));
  if (model != "gpt2" && model != "llama") {
    return file.Error("tokenizer.ggml.model", absl::StrCat("\"", AbslView(model), "\" is not supported (gpt2, llama)"));
  }
  MK_ASSIGN_OR_RETURN(std::vector<std::string_view> tokens, file.GetStrings(kTokensKey));
  MK_ASSIGN_OR_RETURN(std::vector<TokenKind> kinds, ReadKinds(file, tokens.size()));
  auto tokenizer = model == "gpt2" ? ReadBytePairs(file, std::move(tokens), std::move(kinds))
                                   : ReadPieces(file, std::move(tokens), std::move(kinds));
  if (tokenizer.ok()) return tokenizer;
  const absl::string_view problem = tokenizer.status().message();
  if (absl::StartsWith(problem, file.name())) return tokenizer.status();  // names the key already
  return file.Error("tokenizer.ggml", std::string_view(problem.data(), problem.size()));
}

}  // namespace megakernel
