#include "engine/model/gguf_tokenizer.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/absl_view.h"
#include "engine/text/bpe_tokenizer.h"
#include "engine/text/pre_tokenizer.h"

namespace megakernel {
namespace {

constexpr const char* kTokensKey = "tokenizer.ggml.tokens";
constexpr const char* kTypesKey = "tokenizer.ggml.token_type";

// llama.cpp's numbers (enum llama_token_type).
enum class FileTokenType : std::int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5 };

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
      default:
        return file.Error(kTypesKey, absl::StrCat("token ", i, " has type ", (*types)[i], " (1 to 5)"));
    }
  }
  return kinds;
}

absl::Status CheckModel(const GgufFile& file) {
  absl::StatusOr<std::string_view> model = file.GetString("tokenizer.ggml.model");
  if (!model.ok()) return model.status();
  if (*model != "gpt2") {
    return file.Error("tokenizer.ggml.model", absl::StrCat("\"", AbslView(*model), "\" is not supported (gpt2)"));
  }
  if (!file.Has("tokenizer.ggml.add_space_prefix")) return absl::OkStatus();
  absl::StatusOr<bool> add_space = file.GetBool("tokenizer.ggml.add_space_prefix");
  if (!add_space.ok()) return add_space.status();
  if (*add_space) return file.Error("tokenizer.ggml.add_space_prefix", "true is not supported");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadGgufTokenizer(const GgufFile& file) {
  if (absl::Status status = CheckModel(file); !status.ok()) return status;
  absl::StatusOr<std::string_view> pre = file.GetString("tokenizer.ggml.pre");
  if (!pre.ok()) return pre.status();
  const PreTokenizer* rules = FindPreTokenizer(*pre);
  if (rules == nullptr) {
    return file.Error("tokenizer.ggml.pre", absl::StrCat("pre-tokenizer \"", AbslView(*pre), "\" is not supported (",
                                                         PreTokenizerNames(), ")"));
  }
  absl::StatusOr<std::vector<std::string_view>> tokens = file.GetStrings(kTokensKey);
  if (!tokens.ok()) return tokens.status();
  absl::StatusOr<std::vector<TokenKind>> kinds = ReadKinds(file, tokens->size());
  if (!kinds.ok()) return kinds.status();
  absl::StatusOr<std::vector<std::string_view>> merges = file.GetStrings("tokenizer.ggml.merges");
  if (!merges.ok()) return merges.status();
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = CreateBpeTokenizer(
      {.tokens = *std::move(tokens), .kinds = *std::move(kinds), .merges = *std::move(merges), .rules = *rules});
  if (!tokenizer.ok()) {
    const absl::string_view problem = tokenizer.status().message();
    return file.Error("tokenizer.ggml", std::string_view(problem.data(), problem.size()));
  }
  return tokenizer;
}

}  // namespace megakernel
