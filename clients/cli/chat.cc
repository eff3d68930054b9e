#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "clients/cli/command.h"
#include "clients/cli/conversation.h"
#include "clients/cli/generation_flags.h"
#include "clients/cli/interrupts.h"
#include "clients/cli/line_reader.h"
#include "clients/cli/prompt.h"
#include "clients/cli/reply.h"
#include "clients/cli/template_flags.h"

namespace megakernel::cli {
namespace {

constexpr HelpPage kPage = {
    "megakernel chat [flags] [MESSAGE]",
    "Holds a conversation. Its history stays in a session of the server, so each turn sends and computes only what is\n"
    "new. MESSAGE is said first. Ctrl-C stops a reply; a second Ctrl-C at the prompt, /exit or the end of the input\n"
    "leave, and the session is deleted then. Without a terminal each line of stdin is a message, and the first error\n"
    "ends the program.\n"
    "A line that begins with / is a command:\n"
    "  /undo   forget the last message and its reply     /retry  say the last message again\n"
    "  /reset  start over                                /info   the session and its length\n"
    "  /help   this list                                 /exit   leave",
    "  megakernel chat\n"
    "  megakernel chat \"What is a page table?\" --system \"You are a patient teacher.\"\n"
    "  megakernel chat --temperature 0.8 --top-p 0.95 --max-tokens 200 --ttl 3600\n"
    "  megakernel chat --template-args '{\"enable_thinking\": false}'   # Qwen3 without thinking\n"
    "  megakernel chat --session $id                     # go on with a session; it is kept on exit\n"
    "  printf 'Hi!\\nWhat did I say?\\n' | megakernel chat",
};

constexpr char kCommandHelp[] =
    "/undo   forget the last message and its reply\n"
    "/retry  say the last message again, for another reply\n"
    "/reset  start over\n"
    "/info   the session and its length\n"
    "/exit   leave (also Ctrl-D, or Ctrl-C twice)\n"
    "Ctrl-C while a reply comes stops the reply; what was shown stays in the history.\n";

// What the flags said. Plain data.
struct Options {
  std::string system;
  std::string session;
  double ttl_seconds = 0;  // 0: the server's default
  bool stats = isatty(STDERR_FILENO) != 0;
};

// The dialogue with the person at the keyboard.
class Chat {
 public:
  Chat(const Invocation& invocation, const Options& options, Interrupts* interrupts, Conversation* conversation)
      : invocation_(invocation),
        options_(options),
        interactive_(isatty(STDIN_FILENO) != 0),
        reader_(interrupts),
        conversation_(conversation) {}

  // Says `first` if it is not empty, then reads until the end; returns the exit status.
  int Run(const std::string& first) {
    if (interactive_ && !invocation_.json()) {
      absl::FPrintF(stderr, "Chatting with %s. Ctrl-C stops a reply, /help lists commands, /exit leaves.\n",
                    invocation_.server());
    }
    if (!first.empty()) Say(first);
    bool asked_to_leave = false;
    while (!over_) {
      if (interactive_) absl::FPrintF(stderr, "> ");
      std::string line;
      int signal = 0;
      const LineReader::Event event = reader_.Next(&line, &signal);
      if (event == LineReader::Event::kEnd) break;
      if (event == LineReader::Event::kSignal) {
        if (signal != SIGINT || asked_to_leave || !interactive_) return Leave(128 + signal);
        asked_to_leave = true;
        absl::FPrintF(stderr, "\n(Ctrl-C again, or /exit, leaves)\n");
        continue;
      }
      asked_to_leave = false;
      Handle(std::string(absl::StripAsciiWhitespace(line)));
    }
    return Leave(exit_status_);
  }

 private:
  int Leave(int exit_status) {
    if (interactive_) absl::FPrintF(stderr, "\n");
    const client::Error error = conversation_->End();
    // Gone is gone, however it went; and a server that is away was reported when it mattered.
    const bool lost = error.code == absl::StatusCode::kNotFound || error.code == absl::StatusCode::kUnavailable;
    if (!error.ok() && !lost) invocation_.Fail(error);
    return exit_status;
  }

  void Handle(const std::string& line) {
    if (line.empty()) return;
    if (line[0] != '/') {
      if (IsUtf8(line)) {
        Say(line);
      } else {
        Report(client::MakeError(absl::StatusCode::kInvalidArgument, "the message is not UTF-8 text"));
      }
    } else if (line == "/exit" || line == "/quit") {
      over_ = true;
    } else if (line == "/undo") {
      Done(conversation_->Undo(), "Took back the last message and its reply.");
    } else if (line == "/reset") {
      Done(conversation_->Reset(), "Started over.");
    } else if (line == "/retry") {
      Retry();
    } else if (line == "/info") {
      Note(absl::StrCat("session ", conversation_->session_id(), ", ", conversation_->length(), " tokens"));
    } else if (line == "/help") {
      absl::FPrintF(stderr, "%s", kCommandHelp);
    } else {
      const std::string nearest = Nearest(line, {"/undo", "/reset", "/retry", "/info", "/help", "/exit"});
      Note(absl::StrCat("There is no ", line, nearest.empty() ? "; /help lists what there is." : "; did you mean ",
                        nearest, nearest.empty() ? "" : "?"));
    }
  }

  void Retry() {
    const std::string message = conversation_->last_message();
    const client::Error error = conversation_->Undo();
    if (error.ok()) {
      Say(message);
    } else {
      Report(error);
    }
  }

  void Say(const std::string& message) {
    client::CancelToken cancel;
    ReplyStyle style;
    style.json = invocation_.json();
    style.stats = options_.stats;
    const ReplyOutcome outcome = conversation_->Say(message, style, invocation_.call_options(&cancel), &cancel);
    if (outcome.signal != 0 && (outcome.signal != SIGINT || !interactive_)) {
      over_ = true;
      exit_status_ = 128 + outcome.signal;
    } else if (outcome.signal != 0 && outcome.error.code == absl::StatusCode::kCancelled) {
      Note("(stopped)");
    } else if (!outcome.error.ok()) {
      Report(outcome.error);
    }
  }

  // Without a person who could react, an error is the end.
  void Report(client::Error error) {
    if (interactive_) error.hint = InteractiveHint(error);
    invocation_.Fail(error);
    if (interactive_) return;
    over_ = true;
    exit_status_ = kExitFailed;
  }

  static std::string InteractiveHint(const client::Error& error) {
    if (error.reason == "SESSION_EXPIRED") {
      return "The conversation was idle too long and is gone from the server. /reset starts a new one; --ttl SECONDS "
             "keeps the next one longer.";
    }
    if (error.code == absl::StatusCode::kNotFound && error.reason == "SESSION_NOT_FOUND") {
      return "The server no longer has this conversation: it was deleted, or the server was restarted. /reset starts a "
             "new one.";
    }
    if (error.code == absl::StatusCode::kUnavailable) {
      return "The server went away, and the conversation with it if it ended. Start it again, then /reset; or /exit.";
    }
    if (error.reason == "CONTEXT_EXCEEDED")
      return "The conversation is full. /undo takes back a turn, /reset starts over.";
    return error.hint;
  }

  void Done(const client::Error& error, const std::string& note) {
    if (error.ok()) {
      Note(note);
    } else {
      Report(error);
    }
  }

  static void Note(const std::string& text) { absl::FPrintF(stderr, "%s\n", text); }

  const Invocation& invocation_;
  const Options& options_;
  const bool interactive_;
  LineReader reader_;
  Conversation* const conversation_;
  bool over_ = false;
  int exit_status_ = kExitOk;
};

}  // namespace

int RunChat(const Arguments& arguments) {
  v1::GenerateRequest settings;
  Options options;
  Invocation invocation(kPage);
  invocation.flags()->Group("Conversation");
  invocation.flags()->Text("system", "TEXT", "Start the conversation with this system message.", &options.system);
  invocation.flags()->Text("session", "ID", "Go on with this session, and keep it on exit.", &options.session);
  invocation.flags()->Seconds("ttl", "The session expires after this time without a message. Default: the server's.",
                              &options.ttl_seconds);
  AddTemplateFlags(invocation.flags(), settings.mutable_chat());
  AddSamplingFlags(invocation.flags(), settings.mutable_sampling());
  AddStoppingFlags(invocation.flags(), settings.mutable_stopping());
  AddOutputFlags(invocation.flags(), settings.mutable_output());
  invocation.flags()->Switch("stats", "Time to first token and tokens/s after each reply. Default: on a terminal.",
                             &options.stats);
  if (!invocation.Parse(arguments, 1)) return invocation.exit_status();
  const std::string first = invocation.positional().empty() ? "" : invocation.positional()[0];
  if (!IsUtf8(first) || !IsUtf8(options.system)) return invocation.Misuse("the text is not UTF-8");

  Interrupts interrupts;  // before the connection starts threads
  const auto client = invocation.Connect(&interrupts);
  if (client == nullptr) return kExitFailed;
  Conversation conversation(client.get(), &interrupts, settings, options.system);
  const client::Error error = options.session.empty() ? conversation.Start(absl::Seconds(options.ttl_seconds))
                                                      : conversation.Join(options.session);
  if (!error.ok()) return invocation.Fail(error);
  return Chat(invocation, options, &interrupts, &conversation).Run(first);
}

}  // namespace megakernel::cli
