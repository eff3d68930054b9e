// Conversations of the API to those that the engine's chat templates render.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/text/chat_template.h"
#include "megakernel/v1/generation.pb.h"

namespace megakernel {

inline constexpr std::size_t kMaxChatTextBytes = 1 << 20;  // of each text in a conversation
inline constexpr std::size_t kMaxChatBytes = 4 << 20;      // of all of them
inline constexpr int kMaxMessages = 1024;
inline constexpr int kMaxTools = 128;
inline constexpr int kMaxToolCalls = 128;  // of one message

struct Chat {
  std::vector<ChatMessage> messages;
  ChatOptions options;
};

// Errors of both are InvalidArgument and name the field below `path`, the place of the conversation in the request.

// Counts, sizes, and what excludes what: everything that needs no look into a text. Cheap.
absl::Status CheckChatSizes(const v1::ChatPrompt& chat, const std::string& path);

// REQUIRES: checked. JSON texts must be objects within the limits of engine/text/jinja/limits.h, without a member
// twice.
absl::StatusOr<Chat> ConvertChat(const v1::ChatPrompt& chat, const std::string& path);

}  // namespace megakernel
