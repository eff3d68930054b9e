#include "engine/text/chat_continuation.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "engine/base/status_macros.h"

namespace megakernel {
namespace {

// A reply that no template writes by itself and that survives trimming of white space.
constexpr std::string_view kReply = "reply-7f3a9c41e5";

// What `chat_template` renders after the first reply.
absl::StatusOr<std::string> RenderAfterReply(const ChatTemplate& chat_template,
                                             const std::vector<ChatMessage>& messages, const ChatOptions& options) {
  std::vector<ChatMessage> conversation = {{"user", "hello"}, {"assistant", std::string(kReply)}};
  conversation.insert(conversation.end(), messages.begin(), messages.end());
  MK_ASSIGN_OR_RETURN(std::string text, chat_template.Render(conversation, options));
  const std::size_t reply = text.find(kReply);
  if (reply == std::string::npos) {
    return absl::InvalidArgumentError("the model's chat template leaves out earlier replies: a session cannot go on");
  }
  return text.substr(reply + kReply.size());
}

// How many tokens of `terminator` the history ends with: the longest that fits.
std::size_t TerminatorTokensPresent(std::span<const TokenId> history, const std::vector<TokenId>& terminator) {
  for (std::size_t count = std::min(history.size(), terminator.size()); count > 0; --count) {
    if (std::equal(terminator.begin(), terminator.begin() + static_cast<std::ptrdiff_t>(count),
                   history.end() - static_cast<std::ptrdiff_t>(count))) {
      return count;
    }
  }
  return 0;
}

}  // namespace

absl::StatusOr<std::vector<TokenId>> ContinueChat(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                                                  std::span<const TokenId> history,
                                                  const std::vector<ChatMessage>& messages,
                                                  const ChatOptions& options) {
  const ChatOptions ended = {.tools = options.tools, .arguments = options.arguments};
  MK_ASSIGN_OR_RETURN(const std::string terminator, RenderAfterReply(chat_template, {}, ended));
  MK_ASSIGN_OR_RETURN(const std::string rest, RenderAfterReply(chat_template, messages, options));
  if (!rest.starts_with(terminator)) {
    return absl::InvalidArgumentError(
        "the model's chat template ends a reply differently once messages follow: a session cannot go on");
  }
  // Closing and messages are encoded together, as the template's output is when a conversation starts; what history has
  // of the closing is cut off as bytes.
  const std::vector<TokenId> closing = tokenizer.Encode(terminator, true);
  const std::size_t present = TerminatorTokensPresent(history, closing);
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < present; ++i) bytes += tokenizer.TokenBytes(closing[i], false).size();
  return tokenizer.Encode(std::string_view(rest).substr(std::min(bytes, rest.size())), true);
}

}  // namespace megakernel
