#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "clients/cli/command.h"
#include "clients/cli/prompt.h"

namespace megakernel::cli {
namespace {

constexpr HelpPage kTokenizePage = {
    "megakernel tokenize [flags] [TEXT]",
    "Prints the token ids of TEXT, or of stdin. With --chat, --system or --message the text is first rendered with "
    "the\n"
    "model's chat template; --show-text prints what was encoded.",
    "  megakernel tokenize \"Hello, world\"\n"
    "  megakernel tokenize --chat --show-text \"Hello\"      # what the model really sees\n"
    "  megakernel tokenize --parse-special \"<|im_end|>\"     # one token, not ten\n"
    "  megakernel tokenize < book.txt | wc -w               # how many tokens is it?",
};

constexpr HelpPage kDetokenizePage = {
    "megakernel detokenize [flags] [ID...]",
    "Prints the text of token ids, given as arguments or on stdin, separated by blanks or commas.",
    "  megakernel detokenize 19556 28 905\n"
    "  megakernel tokenize \"Hello, world\" | megakernel detokenize",
};

}  // namespace

int RunTokenize(const Arguments& arguments) {
  v1::TokenizeRequest request;
  PromptFlags prompt;
  bool show_text = false;
  Invocation invocation(kTokenizePage);
  AddPromptFlags(invocation.flags(), &prompt, /*with_tokens=*/false);
  invocation.flags()->Switch("parse-special", "Special tokens written in TEXT become their ids.",
                             [&request](bool on) { request.set_parse_special_tokens(on); });
  invocation.flags()->Switch("show-text", "Print the text that was encoded, before the ids.", &show_text);
  if (!invocation.Parse(arguments, 1)) return invocation.exit_status();

  std::string text;
  bool found = false;
  if (!invocation.positional().empty() || prompt.conversation.messages_size() == 0) {
    const absl::Status status = ReadText(invocation.positional(), &text, &found);
    if (!status.ok()) return invocation.Misuse(status.message());
    if (!found) return invocation.Misuse("no TEXT, and nothing on stdin");
  }
  if (prompt.IsChat()) {
    *request.mutable_chat() = MakeConversation(prompt, text);
  } else {
    request.set_text(text);
  }
  const auto client = invocation.Connect();
  if (client == nullptr) return kExitFailed;
  const auto response = client->Tokenize(request, invocation.call_options());
  if (!response.ok()) return invocation.Fail(response.error());
  if (invocation.json()) {
    Print(absl::StrCat(ToJson(response.value()), "\n"));
    return kExitOk;
  }
  if (show_text) Print(absl::StrCat(response->text(), "\n"));
  Print(absl::StrCat(absl::StrJoin(response->token_ids(), " "), "\n"));
  return kExitOk;
}

int RunDetokenize(const Arguments& arguments) {
  v1::DetokenizeRequest request;
  Invocation invocation(kDetokenizePage);
  invocation.flags()->Group("Text");
  invocation.flags()->Switch("skip-special", "Leave special tokens out.",
                             [&request](bool on) { request.set_skip_special_tokens(on); });
  constexpr int kMostArguments = 1 << 20;  // what the server takes at most
  if (!invocation.Parse(arguments, kMostArguments)) return invocation.exit_status();

  std::string text = absl::StrJoin(invocation.positional(), " ");
  if (invocation.positional().empty()) {
    bool found = false;
    const absl::Status status = ReadText({}, &text, &found);
    if (!status.ok()) return invocation.Misuse(status.message());
    if (!found) return invocation.Misuse("no ID, and nothing on stdin");
  }
  const auto ids = ParseInt32List(text);
  if (!ids.ok()) return invocation.Misuse(ids.status().message());
  for (const std::int32_t id : *ids) request.add_token_ids(id);
  const auto client = invocation.Connect();
  if (client == nullptr) return kExitFailed;
  const auto response = client->Detokenize(request, invocation.call_options());
  if (!response.ok()) return invocation.Fail(response.error());
  Print(absl::StrCat(invocation.json() ? ToJson(response.value()) : response->text(), "\n"));
  return kExitOk;
}

}  // namespace megakernel::cli
