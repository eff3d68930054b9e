// The prompt of a request, from the command line and from stdin.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "clients/cli/flags.h"
#include "megakernel/v1/generation.pb.h"
#include "megakernel/v1/inference_service.pb.h"

namespace megakernel::cli {

// What the prompt flags said. Plain data.
struct PromptFlags {
  bool chat = false;
  std::string system;
  v1::ChatPrompt conversation;  // --message, --messages, and what the template gets besides
  v1::TokenIds tokens;          // --tokens

  bool IsChat() const;
};

// Declares --chat, --system, --message, --messages, the template's flags and, if `with_tokens`, --tokens. `prompt` must
// outlive `flags`.
void AddPromptFlags(FlagSet* flags, PromptFlags* prompt, bool with_tokens);

// The text to use: `positional`, or stdin if that is "-", or if nothing is given and stdin is not a terminal.
// `*found` says whether there was any. InvalidArgument if it is not UTF-8.
absl::Status ReadText(const std::vector<std::string>& positional, std::string* text, bool* found);

// The conversation: --system, then each --message, then `text` as the user's, where there are any.
v1::ChatPrompt MakeConversation(const PromptFlags& prompt, const std::string& text);

// Whether `text` is well-formed UTF-8, which is what the API takes.
bool IsUtf8(absl::string_view text);

}  // namespace megakernel::cli
