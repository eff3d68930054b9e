#include "server/command_line.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace megakernel {
namespace {

struct Assignment {
  const Option* option;
  std::string text;
};

absl::Status UnknownFlag(const std::string& flag) {
  std::vector<std::string_view> names = {"help", "version"};
  for (const Option& option : Options()) names.push_back(option.flag);
  const std::string nearest(NearestName(flag, names));
  return absl::InvalidArgumentError(absl::StrCat("unknown flag --", flag,
                                                 nearest.empty() ? "" : absl::StrCat("; did you mean --", nearest, "?"),
                                                 " (--help lists all)"));
}

// Reads the flag at arguments[i] and moves `i` past its value.
absl::StatusOr<Assignment> ReadFlag(std::span<const std::string> arguments, std::size_t& i) {
  std::string name = arguments[i++].substr(2);
  std::optional<std::string> value;
  if (const std::size_t equals = name.find('='); equals != std::string::npos) {
    value = name.substr(equals + 1);
    name.resize(equals);
  }
  const Option* option = FindFlag(name);
  if (option == nullptr && !value && name.starts_with("no-")) {
    option = FindFlag(name.substr(3));
    if (option != nullptr && option->kind == OptionKind::kBool) return Assignment{option, "false"};
    option = nullptr;
  }
  if (option == nullptr) return UnknownFlag(name);
  if (!value && option->kind == OptionKind::kBool) return Assignment{option, "true"};
  if (!value) {
    if (i >= arguments.size() || arguments[i].starts_with("--")) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, " needs a value: --", name, " ", std::string(option->value_name)));
    }
    value = arguments[i++];
  }
  return Assignment{option, *std::move(value)};
}

absl::Status Apply(const Assignment& assignment, ServerOptions& options) {
  const absl::Status status = SetOption(*assignment.option, assignment.text, options);
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat("--", std::string(assignment.option->flag), ": ", status.message()));
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(std::span<const std::string> arguments) {
  CommandLine line;
  std::vector<Assignment> assignments;
  for (std::size_t i = 0; i < arguments.size();) {
    const std::string& argument = arguments[i];
    if (argument == "--help" || argument == "-h") {
      line.action = CommandLine::Action::kHelp;
      return line;
    }
    if (argument == "--version") {
      line.action = CommandLine::Action::kVersion;
      return line;
    }
    if (!argument.starts_with("--")) {
      return absl::InvalidArgumentError(
          absl::StrCat("unexpected argument \"", argument, "\": every option is a --flag"));
    }
    absl::StatusOr<Assignment> assignment = ReadFlag(arguments, i);
    if (!assignment.ok()) return assignment.status();
    assignments.push_back(*std::move(assignment));
  }

  const Option* config = FindFlag("config");
  for (const Assignment& assignment : assignments) {
    if (assignment.option != config) continue;
    if (absl::Status status = Apply(assignment, line.options); !status.ok()) return status;
  }
  if (!line.options.config_file.empty()) {
    if (absl::Status status = ReadConfigFile(line.options.config_file, line.options); !status.ok()) return status;
  }
  for (const Assignment& assignment : assignments) {
    if (absl::Status status = Apply(assignment, line.options); !status.ok()) return status;
  }
  if (absl::Status status = CheckOptions(line.options); !status.ok()) return status;
  return line;
}

}  // namespace megakernel
