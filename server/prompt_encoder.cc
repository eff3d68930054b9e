#include "server/prompt_encoder.h"

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/core/error.h"
#include "engine/text/chat_continuation.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"
#include "server/chat_conversion.h"

namespace megakernel {
namespace {

// The template's refusal as an error of the field.
absl::Status Refused(const absl::Status& status, const std::string& path) {
  return FieldError(absl::StrCat(path, ".messages"), std::string(status.message()));
}

}  // namespace

bool PromptEncoder::adds_bos() const {
  return model_.config().add_bos && model_.config().bos_token >= 0;
}

absl::Status PromptEncoder::CheckText(std::string_view text, const std::string& path) const {
  if (!model_.has_tokenizer()) return FieldError(path, "the model has no tokenizer; send tokens");
  if (text.size() > kMaxTextBytes) {
    return FieldError(path, absl::StrCat(text.size(), " bytes of text; at most ", kMaxTextBytes));
  }
  return absl::OkStatus();
}

absl::Status PromptEncoder::CheckChat(const v1::ChatPrompt& chat, const std::string& path) const {
  if (model_.chat_template() == nullptr) {
    return FieldError(path, "the model has no chat template; send text or tokens");
  }
  return CheckChatSizes(chat, path);
}

std::vector<TokenId> PromptEncoder::EncodeText(std::string_view text, bool at_start) const {
  std::vector<TokenId> tokens = model_.tokenizer().Encode(text, false);
  if (at_start && adds_bos()) tokens.insert(tokens.begin(), model_.config().bos_token);
  return tokens;
}

absl::StatusOr<std::vector<TokenId>> PromptEncoder::EncodeChat(const v1::ChatPrompt& chat,
                                                               std::span<const TokenId> history,
                                                               const std::string& path) const {
  if (history.empty()) {
    MK_ASSIGN_OR_RETURN(const std::string text, RenderChat(chat, path));
    return model_.tokenizer().Encode(text, true);
  }
  MK_ASSIGN_OR_RETURN(const Chat converted, ConvertChat(chat, path));
  auto tokens =
      ContinueChat(*model_.chat_template(), model_.tokenizer(), history, converted.messages, converted.options);
  if (!tokens.ok()) return Refused(tokens.status(), path);
  return tokens;
}

absl::StatusOr<std::string> PromptEncoder::RenderChat(const v1::ChatPrompt& chat, const std::string& path) const {
  MK_ASSIGN_OR_RETURN(const Chat converted, ConvertChat(chat, path));
  auto text = model_.chat_template()->Render(converted.messages, converted.options);
  if (!text.ok()) return Refused(text.status(), path);
  return text;
}

absl::StatusOr<std::vector<TokenId>> PromptEncoder::TakeTokens(const v1::TokenIds& tokens,
                                                               const std::string& path) const {
  if (tokens.ids_size() == 0) return FieldError(absl::StrCat(path, ".ids"), "at least one token is needed");
  const std::int32_t vocab = model_.config().vocab;
  for (int i = 0; i < tokens.ids_size(); ++i) {
    if (tokens.ids(i) < 0 || tokens.ids(i) >= vocab) {
      return FieldError(absl::StrCat(path, ".ids[", i, "]"),
                        absl::StrCat("token ", tokens.ids(i), " is not in [0, ", vocab, ")"));
    }
  }
  return std::vector<TokenId>(tokens.ids().begin(), tokens.ids().end());
}

}  // namespace megakernel
