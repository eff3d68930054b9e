// Turns a conversation into the prompt text that the model was trained on.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace megakernel {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

// Immutable after construction; safe to use from many threads.
class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;

  // The prompt text, special tokens written out. With `add_generation_prompt` it ends where the assistant starts to
  // speak. InvalidArgument when the template rejects the conversation (unknown role, wrong order), naming the message.
  virtual absl::StatusOr<std::string> Render(const std::vector<ChatMessage>& messages,
                                             bool add_generation_prompt) const = 0;
};

}  // namespace megakernel
