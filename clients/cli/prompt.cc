#include "clients/cli/prompt.h"

#include <unistd.h>

#include <iostream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "clients/cli/template_flags.h"

namespace megakernel::cli {
namespace {

absl::Status AddMessage(const std::string& text, v1::ChatPrompt* conversation) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    return absl::InvalidArgumentError(absl::StrCat("expected ROLE=TEXT, such as user=Hello, got '", text, "'"));
  }
  v1::ChatMessage* message = conversation->add_messages();
  message->set_role(text.substr(0, equals));
  message->set_content(text.substr(equals + 1));
  return absl::OkStatus();
}

absl::Status AddTokens(const std::string& text, v1::TokenIds* tokens) {
  const auto ids = ParseInt32List(text);
  if (!ids.ok()) return ids.status();
  for (const std::int32_t id : *ids) tokens->add_ids(id);
  return absl::OkStatus();
}

}  // namespace

bool PromptFlags::IsChat() const {
  return chat || !system.empty() || conversation.messages_size() > 0 || conversation.continue_final_message() ||
         conversation.tools_size() > 0 || conversation.has_template_arguments();
}

void AddPromptFlags(FlagSet* flags, PromptFlags* prompt, bool with_tokens) {
  flags->Group("Prompt");
  flags->Switch("chat", "Send the prompt as a user's message, in the model's chat format.", &prompt->chat);
  flags->Text("system", "TEXT", "Start the conversation with this system message. Implies --chat.", &prompt->system);
  flags->Value("message", "ROLE=TEXT", "Add a message; may be repeated, and PROMPT comes after them. Implies --chat.",
               [prompt](const std::string& text) { return AddMessage(text, &prompt->conversation); });
  flags->Value("messages", "FILE",
               "Add the messages of a JSON list, as OpenAI's API writes them, tool calls and results included. Implies "
               "--chat.",
               [prompt](const std::string& path) {
                 std::string text;
                 const absl::Status status = ReadFile(path, &text);
                 return status.ok() ? AddJsonMessages(text, &prompt->conversation) : status;
               });
  flags->Switch("continue-final", "The model goes on with the last message instead of answering it. Implies --chat.",
                [prompt](bool on) { prompt->conversation.set_continue_final_message(on); });
  flags->Switch("generation-prompt", "End the prompt where the assistant starts to speak. Default: on.",
                [prompt](bool on) { prompt->conversation.set_add_generation_prompt(on); });
  AddTemplateFlags(flags, &prompt->conversation);
  if (!with_tokens) return;
  flags->Value("tokens", "ID,ID,...", "Token ids instead of text. May be repeated.",
               [prompt](const std::string& text) { return AddTokens(text, &prompt->tokens); });
}

absl::Status ReadText(const std::vector<std::string>& positional, std::string* text, bool* found) {
  *found = true;
  if (!positional.empty() && positional[0] != "-") {
    *text = positional[0];
  } else if (!positional.empty() || isatty(STDIN_FILENO) == 0) {
    text->assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  } else {
    *found = false;
  }
  if (*found && !IsUtf8(*text)) return absl::InvalidArgumentError("the text is not UTF-8");
  return absl::OkStatus();
}

v1::ChatPrompt MakeConversation(const PromptFlags& prompt, const std::string& text) {
  v1::ChatPrompt chat;
  if (!prompt.system.empty()) {
    v1::ChatMessage* system = chat.add_messages();
    system->set_role("system");
    system->set_content(prompt.system);
  }
  chat.MergeFrom(prompt.conversation);
  if (!text.empty()) {
    v1::ChatMessage* user = chat.add_messages();
    user->set_role("user");
    user->set_content(text);
  }
  return chat;
}

bool IsUtf8(absl::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const int more = lead < 0x80 ? 0 : (lead >> 5) == 0x6 ? 1 : (lead >> 4) == 0xe ? 2 : (lead >> 3) == 0x1e ? 3 : -1;
    if (more < 0 || i + static_cast<size_t>(more) >= text.size()) return false;
    unsigned code = more == 0 ? lead : lead & (0x3fu >> more);
    for (int k = 1; k <= more; ++k) {
      const auto next = static_cast<unsigned char>(text[i + static_cast<size_t>(k)]);
      if ((next & 0xc0) != 0x80) return false;
      code = code << 6 | (next & 0x3f);
    }
    constexpr unsigned kLeast[] = {0, 0x80, 0x800, 0x10000};  // shorter forms exist below these
    if (code < kLeast[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    i += static_cast<size_t>(more) + 1;
  }
  return true;
}

}  // namespace megakernel::cli
