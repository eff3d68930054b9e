// A command of `megakernel`: its help page, the flags that all commands share, how results and errors are printed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "clients/cli/connection_flags.h"
#include "clients/cli/flags.h"
#include "clients/cli/interrupts.h"
#include "clients/cpp/client.h"
#include "google/protobuf/message.h"

namespace megakernel::cli {

// Exit statuses, the same for every command.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;         // the server refused, failed, or cannot be reached
inline constexpr int kExitUsage = 2;          // the command line is wrong; nothing was sent
inline constexpr int kExitInterrupted = 130;  // Ctrl-C, as shells report it

using Arguments = std::vector<std::string>;

// One entry of the list of commands. `run` gets what follows the name on the command line, returns an exit status.
struct Command {
  absl::string_view name;
  absl::string_view summary;
  int (*run)(const Arguments& arguments);
};

// The parts of a help page that are not flags.
struct HelpPage {
  absl::string_view usage;     // "megakernel model [flags]"
  absl::string_view about;     // paragraphs
  absl::string_view examples;  // commands that work as they stand, with a comment each
};

// What every command starts from. Declare the command's own flags in flags(), then Parse.
class Invocation {
 public:
  explicit Invocation(const HelpPage& page);

  FlagSet* flags() { return &flags_; }

  // Reads the command line. Unless it returns true the command is over with status exit_status(): the help page was
  // asked for, or something is wrong and stderr says what. At most `max_positional` arguments may stand beside flags.
  bool Parse(const Arguments& arguments, int max_positional);
  int exit_status() const { return exit_status_; }
  const std::vector<std::string>& positional() const { return positional_; }

  // Connects to --server. On failure prints the error and returns nullptr. With `interrupts`, Ctrl-C meanwhile ends the
  // program, as it does by default.
  std::unique_ptr<client::Client> Connect(Interrupts* interrupts = nullptr) const;
  // With --timeout.
  client::CallOptions call_options(client::CancelToken* cancel = nullptr) const;

  bool json() const { return json_; }
  bool wait() const { return wait_; }
  absl::Duration connect_timeout() const { return absl::Seconds(connect_timeout_seconds_); }
  const std::string& server() const { return server_; }

  // Prints an error of a call (with --json as {"error": {...}} on stdout, else on stderr); returns kExitFailed.
  int Fail(const client::Error& error) const;
  // Prints what is wrong with the command line; returns kExitUsage.
  int Misuse(absl::string_view message) const;

 private:
  const HelpPage page_;
  FlagSet flags_;
  std::string server_;
  ConnectionFlags connection_;
  client::ConnectOptions connect_options_;  // of connection_, once parsed
  bool json_ = false;
  bool help_ = false;
  double timeout_seconds_ = 0;  // 0: none
  double connect_timeout_seconds_ = 5;
  bool wait_ = false;
  std::vector<std::string> positional_;
  int exit_status_ = kExitOk;
};

// One line of JSON: the protobuf mapping with the field names of the proto files; scalars are printed also when zero.
std::string ToJson(const google::protobuf::Message& message);

// `text` as a JSON string, quotes included.
std::string JsonString(absl::string_view text);

// Writes to stdout, at once: what is streamed must be seen as it comes.
void Print(absl::string_view text);

int RunGenerate(const Arguments& arguments);
int RunChat(const Arguments& arguments);
int RunSession(const Arguments& arguments);
int RunTokenize(const Arguments& arguments);
int RunDetokenize(const Arguments& arguments);
int RunModel(const Arguments& arguments);
int RunHealth(const Arguments& arguments);
int RunLoad(const Arguments& arguments);

}  // namespace megakernel::cli
