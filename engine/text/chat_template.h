// Turns a conversation into the prompt text that the model was trained on.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace megakernel {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant", "tool"
  std::string content;
  // Further members as the text of a JSON object, "" for none: tool_calls, reasoning_content, name, tool_call_id, ...
  // A member "content" takes the place of the one above (null, or a list of parts).
  std::string fields = {};
};

// What else a template may look at. JSON texts are "" for none.
struct ChatOptions {
  // The text ends where the assistant starts to speak.
  bool add_generation_prompt = false;
  // The text ends inside the last message, which the model goes on with. Not together with add_generation_prompt.
  bool continue_final_message = false;
  std::string tools = {};      // JSON list of the functions that the model may call
  std::string arguments = {};  // JSON object of further variables of the template, such as enable_thinking
};

// Whether `text` is a JSON object that can stand in ChatMessage::fields, in ChatOptions::arguments or in the list of
// ChatOptions::tools. InvalidArgument says why not, without naming the text: not JSON, a member twice, an integer
// beyond 64 bits, or beyond a limit of jinja/limits.h.
absl::Status CheckJsonObject(std::string_view text);

// Immutable after construction; safe to use from many threads.
class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;

  // The prompt text, special tokens written out. InvalidArgument when the template rejects the conversation (unknown
  // role, wrong order), naming the message, or when an option is malformed, naming it.
  // Source: transformers 5, utils/chat_template_utils.py, render_jinja_template.
  virtual absl::StatusOr<std::string> Render(const std::vector<ChatMessage>& messages,
                                             const ChatOptions& options) const = 0;

  absl::StatusOr<std::string> Render(const std::vector<ChatMessage>& messages, bool add_generation_prompt) const {
    return Render(messages, ChatOptions{.add_generation_prompt = add_generation_prompt});
  }
};

}  // namespace megakernel
