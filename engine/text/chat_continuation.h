// New messages for a conversation whose tokens are already in a session.
#pragma once

#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"

namespace megakernel {

// The tokens to append to `history` so that it reads as the template would have rendered the conversation with
// `messages` at its end. `history` is taken to end with an assistant's reply, complete or not: what the template writes
// after a reply (such as "<|im_end|>\n") comes first, as far as history does not end with it already. REQUIRES: history
// and messages are not empty.
//
// The history is never rendered again: the template is asked for [user, assistant] and for the same with `messages`
// added, and what follows the assistant's reply in the second is the continuation. InvalidArgument when the template
// refuses the messages (an unknown role, two users in a row), or when it treats the two differently, so that there is
// no continuation. `options` are those of the whole conversation; what the template writes before the first reply, as
// most do with tools, is in the history or it is not.
absl::StatusOr<std::vector<TokenId>> ContinueChat(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                                                  std::span<const TokenId> history,
                                                  const std::vector<ChatMessage>& messages, const ChatOptions& options);

}  // namespace megakernel
