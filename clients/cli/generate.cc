#include <unistd.h>

#include <string>

#include "clients/cli/command.h"
#include "clients/cli/generation_flags.h"
#include "clients/cli/interrupts.h"
#include "clients/cli/prompt.h"
#include "clients/cli/reply.h"

namespace megakernel::cli {
namespace {

constexpr HelpPage kPage = {
    "megakernel generate [flags] [PROMPT]",
    "Continues PROMPT and prints the text as it comes. `-` takes the prompt from stdin, as does leaving it out when\n"
    "stdin is no terminal. On a terminal, or with --stats, time to first token and tokens/s follow on stderr.\n"
    "Ctrl-C stops it. What each flag means is what its field means in proto/megakernel/v1.",
    "  megakernel generate \"The capital of France is\" --max-tokens 20\n"
    "  megakernel generate --chat \"Explain TCP in one sentence.\" --temperature 0     # greedy, a chat model's "
    "format\n"
    "  megakernel generate --system \"Answer in one word.\" \"Is the sky blue?\" --seed 7  # the same words every "
    "time\n"
    "  megakernel generate --chat \"Rain in Paris?\" --tools tools.json                 # functions the model may "
    "call\n"
    "  megakernel generate --messages talk.json --continue-final                        # goes on with its last "
    "message\n"
    "  megakernel generate \"1, 2, 3,\" --stop $'\\n' --max-tokens 64 --stats\n"
    "  megakernel generate --tokens 504,3575,282,4649 --no-text                         # ids in, ids out\n"
    "  megakernel generate \"Roses are\" --num-sequences 3 --max-tokens 16               # three continuations\n"
    "  cat notes.txt | megakernel generate --json | jq -j '.delta.text // empty'\n"
    "  megakernel generate --session $(megakernel session create) \"Once upon a time\"    # keeps the state for more",
};

struct Options {
  PromptFlags prompt;
  bool stats = isatty(STDERR_FILENO) != 0;
};

void AddRequestFlags(FlagSet* flags, v1::GenerateRequest* request) {
  flags->Group("Request");
  flags->Text("session", "ID", "Append to this session and keep its state. Default: no session.",
              request->mutable_session_id());
  flags->Value("expected-length", "N", "Refuse unless the session has N tokens, so that a retry cannot append twice.",
               [request](const std::string& text) {
                 std::int32_t value = 0;
                 const absl::Status status = ParseInt32(text, &value);
                 if (status.ok()) request->set_expected_length(value);
                 return status;
               });
  flags->Value("num-sequences", "N", "Independent continuations of the prompt, 1 to 16. Default: 1.",
               [request](const std::string& text) {
                 std::int32_t value = 0;
                 const absl::Status status = ParseInt32(text, &value);
                 if (status.ok()) request->set_num_sequences(value);
                 return status;
               });
  flags->Text("request-id", "TEXT", "Names the request in the server's log. Default: made up.",
              request->mutable_request_id());
}

// Fills the prompt in; false with a message if there is none or it makes no sense.
bool SetPrompt(const Invocation& invocation, const PromptFlags& prompt, v1::GenerateRequest* request,
               std::string* problem) {
  const bool may_be_absent = !request->session_id().empty();
  std::string text;
  bool found = false;
  const bool other_source = prompt.tokens.ids_size() > 0 || prompt.conversation.messages_size() > 0 || may_be_absent;
  if (!invocation.positional().empty() || !other_source) {
    const absl::Status status = ReadText(invocation.positional(), &text, &found);
    if (!status.ok()) {
      *problem = std::string(status.message());
      return false;
    }
  }
  if (prompt.tokens.ids_size() > 0) {
    if (found || prompt.IsChat()) {
      *problem = "--tokens stands for the whole prompt; leave out text and --chat, --system, --message";
      return false;
    }
    *request->mutable_tokens() = prompt.tokens;
  } else if (prompt.IsChat()) {
    *request->mutable_chat() = MakeConversation(prompt, text);
    if (request->chat().messages().empty()) *problem = "--chat needs a PROMPT or a --message";
  } else if (found) {
    request->set_text(text);
  } else if (!may_be_absent) {
    *problem = "no PROMPT, and nothing on stdin";
  }
  return problem->empty();
}

}  // namespace

int RunGenerate(const Arguments& arguments) {
  v1::GenerateRequest request;
  Options options;
  Invocation invocation(kPage);
  AddPromptFlags(invocation.flags(), &options.prompt, /*with_tokens=*/true);
  AddRequestFlags(invocation.flags(), &request);
  AddSamplingFlags(invocation.flags(), request.mutable_sampling());
  AddStoppingFlags(invocation.flags(), request.mutable_stopping());
  AddOutputFlags(invocation.flags(), request.mutable_output());
  invocation.flags()->Switch("stats", "Time to first token and tokens/s at the end. Default: on a terminal.",
                             &options.stats);
  if (!invocation.Parse(arguments, 1)) return invocation.exit_status();
  std::string problem;
  if (!SetPrompt(invocation, options.prompt, &request, &problem)) return invocation.Misuse(problem);

  Interrupts interrupts;  // before the connection starts threads
  const auto client = invocation.Connect(&interrupts);
  if (client == nullptr) return kExitFailed;
  client::CancelToken cancel;
  ReplyStyle style;
  style.json = invocation.json();
  style.token_ids = request.output().has_text() && !request.output().text();
  style.stats = options.stats;
  const ReplyOutcome outcome =
      RunReply(client.get(), request, invocation.call_options(&cancel), &cancel, &interrupts, style);
  if (outcome.signal != 0) return 128 + outcome.signal;
  return outcome.error.ok() ? kExitOk : invocation.Fail(outcome.error);
}

}  // namespace megakernel::cli
