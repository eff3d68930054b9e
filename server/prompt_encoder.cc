#include "server/prompt_encoder.h"

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/core/error.h"
#include "engine/text/chat_continuation.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"

namespace megakernel {
namespace {

std::vector<ChatMessage> Messages(const v1::ChatPrompt& chat) {
  std::vector<ChatMessage> messages;
  messages.reserve(static_cast<std::size_t>(chat.messages_size()));
  for (const v1::ChatMessage& message : chat.messages()) messages.push_back({message.role(), message.content()});
  return messages;
}

bool AddGenerationPrompt(const v1::ChatPrompt& chat) {
  return !chat.has_add_generation_prompt() || chat.add_generation_prompt();
}

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
  if (chat.messages_size() == 0) return FieldError(absl::StrCat(path, ".messages"), "at least one message is needed");
  if (chat.messages_size() > kMaxMessages) {
    return FieldError(absl::StrCat(path, ".messages"),
                      absl::StrCat(chat.messages_size(), " messages; at most ", kMaxMessages));
  }
  std::size_t total = 0;
  for (int i = 0; i < chat.messages_size(); ++i) {
    const v1::ChatMessage& message = chat.messages(i);
    const std::string at = absl::StrCat(path, ".messages[", i, "]");
    if (message.role().empty()) return FieldError(absl::StrCat(at, ".role"), "the role is missing");
    if (message.content().size() > kMaxMessageBytes) {
      return FieldError(absl::StrCat(at, ".content"),
                        absl::StrCat(message.content().size(), " bytes; at most ", kMaxMessageBytes));
    }
    total += message.content().size();
  }
  if (total > kMaxTextBytes) {
    return FieldError(absl::StrCat(path, ".messages"),
                      absl::StrCat(total, " bytes of content; at most ", kMaxTextBytes));
  }
  return absl::OkStatus();
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
  auto tokens =
      ContinueChat(*model_.chat_template(), model_.tokenizer(), history, Messages(chat), AddGenerationPrompt(chat));
  if (!tokens.ok()) return Refused(tokens.status(), path);
  return tokens;
}

absl::StatusOr<std::string> PromptEncoder::RenderChat(const v1::ChatPrompt& chat, const std::string& path) const {
  auto text = model_.chat_template()->Render(Messages(chat), AddGenerationPrompt(chat));
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
