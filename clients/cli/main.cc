// `megakernel`: the command-line client of a megakernel server.
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "clients/cli/command.h"

namespace megakernel::cli {
namespace {

constexpr Command kCommands[] = {
    {"generate", "continue a prompt; streams the text", &RunGenerate},
    {"chat", "hold a conversation; its history stays on the server", &RunChat},
    {"session", "create, get, list, fork, roll back, delete, save or restore sessions", &RunSession},
    {"tokenize", "text to token ids", &RunTokenize},
    {"detokenize", "token ids to text", &RunDetokenize},
    {"model", "what the server serves and what it can do", &RunModel},
    {"health", "whether the server serves; can wait or watch", &RunHealth},
    {"load", "drive a server with many calls and measure every token", &RunLoad},
};

std::string HelpText() {
  std::string text =
      "Usage: megakernel COMMAND [arguments]\n\n"
      "Talks to a megakernel server over gRPC. Every command explains itself: megakernel COMMAND --help\n\n"
      "Commands:\n";
  for (const Command& command : kCommands) absl::StrAppendFormat(&text, "  %-12s%s\n", command.name, command.summary);
  absl::StrAppend(&text,
                  "\nThe server is found at --server HOST:PORT, else $MEGAKERNEL_SERVER, else 127.0.0.1:50051.\n\n"
                  "Examples:\n"
                  "  megakernel health                             # does a server run?\n"
                  "  megakernel generate \"The capital of France is\"\n"
                  "  megakernel chat                               # /help inside lists what can be done\n"
                  "  megakernel model --json                       # for programs: one JSON object per line\n\n"
                  "Exit status: 0 done, 1 the server refused, failed or cannot be reached, 2 wrong command line,\n"
                  "130 stopped by Ctrl-C.\n");
  return text;
}

int UnknownCommand(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : kCommands) names.emplace_back(command.name);
  const std::string nearest = Nearest(name, names);
  std::string message = absl::StrCat("unknown command '", name, "'");
  if (!nearest.empty()) absl::StrAppend(&message, "; did you mean ", nearest, "?");
  absl::FPrintF(stderr, "megakernel: %s\n  `megakernel --help` lists the commands.\n", message);
  return kExitUsage;
}

int Main(const Arguments& arguments) {
  if (arguments.empty()) {
    absl::FPrintF(stderr, "%s", HelpText());
    return kExitUsage;
  }
  const std::string& name = arguments.front();
  if (name == "--help" || name == "-h" || name == "help") {
    Print(HelpText());
    return kExitOk;
  }
  for (const Command& command : kCommands) {
    if (command.name == name) return command.run(Arguments(arguments.begin() + 1, arguments.end()));
  }
  return UnknownCommand(name);
}

}  // namespace
}  // namespace megakernel::cli

int main(int argc, char** argv) {
  return megakernel::cli::Main(megakernel::cli::Arguments(argv + 1, argv + argc));
}
