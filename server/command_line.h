// From argv to options: flags, the JSON file they name, and the --help page.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/options.h"

namespace megakernel {

struct CommandLine {
  enum class Action { kServe, kHelp, kVersion };
  Action action = Action::kServe;
  ServerOptions options;
};

// Reads the arguments after the program's name. A --config file is read first and flags override it, wherever they
// stand. A flag given twice has its last value. InvalidArgument names the flag, or the file and the key, and what is
// allowed; an unknown name comes with the nearest known one.
absl::StatusOr<CommandLine> ParseCommandLine(std::span<const std::string> arguments);

// Reads a JSON file into `options`. Unknown and repeated keys, wrong types and values out of range are errors that name
// the file and the key.
absl::Status ReadConfigFile(const std::string& path, ServerOptions& options);

// The same for JSON text; `source` stands for the file's name in errors.
absl::Status ReadConfigText(const std::string& text, const std::string& source, ServerOptions& options);

std::string HelpPage();

}  // namespace megakernel
