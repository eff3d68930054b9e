// Options of a subcommand: --name VALUE or --name=VALUE, flags without a value.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace megakernel::bench {

struct Option {
  const char* name;           // without the dashes
  const char* value;          // placeholder for help; null for a flag
  const char* default_value;  // null: the option must be given; ignored for a flag
  const char* help;
};

class Arguments {
 public:
  // InvalidArgument names what is unknown, repeated, missing or without its value.
  static absl::StatusOr<Arguments> Parse(std::span<const std::string> args, std::span<const Option> options);

  bool Flag(const std::string& name) const { return values_.at(name) == "true"; }
  const std::string& Text(const std::string& name) const { return values_.at(name); }
  // InvalidArgument unless the whole value is an integer from low to high.
  absl::StatusOr<std::int64_t> Int(const std::string& name, std::int64_t low, std::int64_t high) const;
  absl::StatusOr<double> Number(const std::string& name) const;

 private:
  std::map<std::string, std::string> values_;
};

// The options as a help page on stdout.
void PrintHelp(const char* subcommand, const char* summary, std::span<const Option> options);

// Parses; on --help prints help and sets `exit_status` to 0, on an error prints it and sets 2; empty in both cases.
std::optional<Arguments> ParseOrHelp(const char* subcommand, const char* summary, std::span<const std::string> args,
                                     std::span<const Option> options, int* exit_status);

}  // namespace megakernel::bench
