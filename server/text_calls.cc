#include "server/text_calls.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/core/error.h"
#include "engine/text/tokenizer.h"

namespace megakernel {

absl::Status Tokenize(const PromptEncoder& encoder, const Model& model, const v1::TokenizeRequest& request,
                      v1::TokenizeResponse& response) {
  std::string text;
  bool parse_special = request.parse_special_tokens();
  switch (request.input_case()) {
    case v1::TokenizeRequest::kText:
      MK_RETURN_IF_ERROR(encoder.CheckText(request.text(), "text"));
      text = request.text();
      break;
    case v1::TokenizeRequest::kChat: {
      MK_RETURN_IF_ERROR(encoder.CheckChat(request.chat(), "chat"));
      MK_ASSIGN_OR_RETURN(text, encoder.RenderChat(request.chat(), "chat"));
      parse_special = true;
      break;
    }
    case v1::TokenizeRequest::INPUT_NOT_SET:
      return FieldError("input", "there is neither text nor a conversation");
  }
  const std::vector<TokenId> tokens = model.tokenizer().Encode(text, parse_special);
  response.mutable_token_ids()->Add(tokens.begin(), tokens.end());
  response.set_text(std::move(text));
  return absl::OkStatus();
}

absl::Status Detokenize(const Model& model, const v1::DetokenizeRequest& request, v1::DetokenizeResponse& response) {
  if (!model.has_tokenizer()) return FieldError("token_ids", "the model has no tokenizer: its tokens have no text");
  if (request.token_ids_size() > kMaxDetokenizeTokens) {
    return FieldError("token_ids", absl::StrCat(request.token_ids_size(), " tokens; at most ", kMaxDetokenizeTokens));
  }
  const std::int32_t vocab = model.config().vocab;
  for (int i = 0; i < request.token_ids_size(); ++i) {
    if (request.token_ids(i) < 0 || request.token_ids(i) >= vocab) {
      return FieldError(absl::StrCat("token_ids[", i, "]"),
                        absl::StrCat("token ", request.token_ids(i), " is not in [0, ", vocab, ")"));
    }
  }
  const std::vector<TokenId> tokens(request.token_ids().begin(), request.token_ids().end());
  response.set_text(model.tokenizer().Decode(tokens, request.skip_special_tokens()));
  return absl::OkStatus();
}

}  // namespace megakernel
