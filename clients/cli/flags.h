// Command-line flags of one command: declared once, which gives parsing, error messages and the help page.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace megakernel::cli {

// Not thread-safe. Targets given to the declaring functions must outlive Parse.
//
// Spelling: --name=value or --name value; switches --name and --no-name. The last one given counts, unless the flag
// says that it may be repeated. `--` ends the flags; a lone `-` is an argument.
class FlagSet {
 public:
  // Reads a value; an error says what is wrong with it.
  using Setter = std::function<absl::Status(const std::string&)>;

  // Starts a group of flags on the help page.
  void Group(std::string title);
  // Declares a flag with a value. `placeholder` stands for it on the help page ("N", "TEXT").
  void Value(std::string name, std::string placeholder, std::string help, Setter set);
  void Text(std::string name, std::string placeholder, std::string help, std::string* target);
  // A duration in seconds, fractions allowed; more than 0.
  void Seconds(std::string name, std::string help, double* target);
  // Declares a flag without a value, and its --no- form.
  void Switch(std::string name, std::string help, std::function<void(bool)> set);
  void Switch(std::string name, std::string help, bool* target);

  // Reads `arguments` and returns those that are no flags. InvalidArgument names the flag at fault, and the nearest
  // known one if it is unknown.
  absl::StatusOr<std::vector<std::string>> Parse(const std::vector<std::string>& arguments) const;

  // The flags, grouped and aligned, one paragraph each.
  std::string Help() const;

  bool Has(absl::string_view name) const { return Find(name) != nullptr; }

 private:
  struct Flag {
    std::string name;
    std::string placeholder;  // empty: a switch
    std::string help;
    Setter set;  // of a switch: called with "true" or "false"
    std::string group;
  };

  const Flag* Find(absl::string_view name) const;
  absl::Status Unknown(const std::string& argument, absl::string_view name) const;

  std::string group_;
  std::vector<Flag> flags_;
};

// Readers of values; errors say what is expected.
absl::Status ParseInt32(const std::string& text, std::int32_t* value);
absl::Status ParseUint64(const std::string& text, std::uint64_t* value);
absl::Status ParseFloat(const std::string& text, float* value);
// "1,2,3", at least one.
absl::StatusOr<std::vector<std::int32_t>> ParseInt32List(const std::string& text);

// Of `candidates` the one that takes the fewest edits to make from `word`; empty if none is near.
std::string Nearest(absl::string_view word, const std::vector<std::string>& candidates);

}  // namespace megakernel::cli
