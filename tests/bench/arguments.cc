#include "tests/bench/arguments.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace megakernel::bench {

absl::StatusOr<Arguments> Arguments::Parse(std::span<const std::string> args, std::span<const Option> options) {
  Arguments result;
  std::set<std::string> given;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    const std::size_t equals = arg.find('=');
    const std::string name =
        arg.starts_with("--") ? arg.substr(2, equals == std::string::npos ? equals : equals - 2) : "";
    const Option* option = nullptr;
    for (const Option& candidate : options) {
      if (name == candidate.name) option = &candidate;
    }
    if (option == nullptr) return absl::InvalidArgumentError(absl::StrCat("unknown option ", arg));
    if (!given.insert(name).second) return absl::InvalidArgumentError(absl::StrCat("--", name, " appears twice"));
    if (option->value == nullptr) {
      if (equals != std::string::npos) return absl::InvalidArgumentError(absl::StrCat("--", name, " takes no value"));
      result.values_[name] = "true";
    } else if (equals != std::string::npos) {
      result.values_[name] = arg.substr(equals + 1);
    } else if (i + 1 < args.size()) {
      result.values_[name] = args[++i];
    } else {
      return absl::InvalidArgumentError(absl::StrCat("--", name, " needs a value"));
    }
  }
  for (const Option& option : options) {
    if (result.values_.count(option.name) != 0) continue;
    if (option.value != nullptr && option.default_value == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("--", option.name, " must be given"));
    }
    result.values_[option.name] = option.value == nullptr ? "false" : option.default_value;
  }
  return result;
}

absl::StatusOr<std::int64_t> Arguments::Int(const std::string& name, std::int64_t low, std::int64_t high) const {
  const std::string& text = Text(name);
  char* end = nullptr;
  errno = 0;
  const long long value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || errno != 0 || value < low || value > high) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", name, " is \"", text, "\"; it must be an integer from ", low, " to ", high));
  }
  return value;
}

absl::StatusOr<double> Arguments::Number(const std::string& name) const {
  const std::string& text = Text(name);
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0') {
    return absl::InvalidArgumentError(absl::StrCat("--", name, " is \"", text, "\"; it must be a number"));
  }
  return value;
}

void PrintHelp(const char* subcommand, const char* summary, std::span<const Option> options) {
  std::printf("usage: megakernel-bench %s [OPTIONS]\n\n%s\n\n", subcommand, summary);
  for (const Option& option : options) {
    const std::string left =
        option.value == nullptr ? absl::StrCat("--", option.name) : absl::StrCat("--", option.name, " ", option.value);
    std::printf("  %-24s %s", left.c_str(), option.help);
    if (option.value != nullptr && option.default_value == nullptr) std::printf(" (required)");
    if (option.value != nullptr && option.default_value != nullptr && *option.default_value != '\0') {
      std::printf(" (default %s)", option.default_value);
    }
    std::printf("\n");
  }
}

std::optional<Arguments> ParseOrHelp(const char* subcommand, const char* summary, std::span<const std::string> args,
                                     std::span<const Option> options, int* exit_status) {
  for (const std::string& arg : args) {
    if (arg != "--help") continue;
    PrintHelp(subcommand, summary, options);
    *exit_status = 0;
    return std::nullopt;
  }
  auto parsed = Arguments::Parse(args, options);
  if (parsed.ok()) return *std::move(parsed);
  std::fprintf(stderr, "megakernel-bench %s: %s (see --help)\n", subcommand,
               std::string(parsed.status().message()).c_str());
  *exit_status = 2;
  return std::nullopt;
}

}  // namespace megakernel::bench
