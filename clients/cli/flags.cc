#include "clients/cli/flags.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace megakernel::cli {
namespace {

constexpr int kHelpColumn = 30;
constexpr int kHelpWidth = 100;

absl::Status Expected(absl::string_view what, const std::string& text) {
  return absl::InvalidArgumentError(absl::StrCat("expected ", what, ", got '", text, "'"));
}

// Letters to insert, delete or replace.
int EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

// Appends `text` in lines that start at the help column.
void AppendWrapped(absl::string_view text, int column, std::string* out) {
  for (absl::string_view word : absl::StrSplit(text, ' ')) {
    if (column + 1 + static_cast<int>(word.size()) > kHelpWidth) {
      absl::StrAppend(out, "\n", std::string(kHelpColumn, ' '));
      column = kHelpColumn;
    } else if (column > kHelpColumn) {
      absl::StrAppend(out, " ");
      ++column;
    }
    absl::StrAppend(out, word);
    column += static_cast<int>(word.size());
  }
  absl::StrAppend(out, "\n");
}

}  // namespace

absl::Status ParseInt32(const std::string& text, std::int32_t* value) {
  return absl::SimpleAtoi(text, value) ? absl::OkStatus() : Expected("a whole number", text);
}

absl::Status ParseUint64(const std::string& text, std::uint64_t* value) {
  return absl::SimpleAtoi(text, value) ? absl::OkStatus() : Expected("a whole number from 0 to 2^64 - 1", text);
}

absl::Status ParseFloat(const std::string& text, float* value) {
  return absl::SimpleAtof(text, value) ? absl::OkStatus() : Expected("a number", text);
}

absl::StatusOr<std::vector<std::int32_t>> ParseInt32List(const std::string& text) {
  std::vector<std::int32_t> values;
  for (absl::string_view part : absl::StrSplit(text, absl::ByAnyChar(", \n\t"), absl::SkipWhitespace())) {
    std::int32_t value = 0;
    if (!absl::SimpleAtoi(part, &value)) return Expected("whole numbers separated by commas", text);
    values.push_back(value);
  }
  if (values.empty()) return Expected("at least one whole number", text);
  return values;
}

std::string Nearest(absl::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  int best_distance = std::max<int>(2, static_cast<int>(word.size()) / 2) + 1;
  for (const std::string& candidate : candidates) {
    int distance = EditDistance(word, candidate);
    if (!word.empty() && absl::StartsWith(candidate, word)) distance = std::min(distance, 1);  // cut short
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

void FlagSet::Group(std::string title) {
  group_ = std::move(title);
}

void FlagSet::Value(std::string name, std::string placeholder, std::string help, Setter set) {
  flags_.push_back({std::move(name), std::move(placeholder), std::move(help), std::move(set), group_});
}

void FlagSet::Text(std::string name, std::string placeholder, std::string help, std::string* target) {
  Value(std::move(name), std::move(placeholder), std::move(help), [target](const std::string& text) {
    *target = text;
    return absl::OkStatus();
  });
}

void FlagSet::Seconds(std::string name, std::string help, double* target) {
  Value(std::move(name), "SECONDS", std::move(help), [target](const std::string& text) {
    double seconds = 0;
    if (!absl::SimpleAtod(text, &seconds) || !(seconds > 0) || seconds > 1e9) return Expected("seconds above 0", text);
    *target = seconds;
    return absl::OkStatus();
  });
}

void FlagSet::Switch(std::string name, std::string help, std::function<void(bool)> set) {
  Value(std::move(name), "", std::move(help), [set = std::move(set)](const std::string& text) {
    set(text == "true");
    return absl::OkStatus();
  });
}

void FlagSet::Switch(std::string name, std::string help, bool* target) {
  Switch(std::move(name), std::move(help), [target](bool on) { *target = on; });
}

const FlagSet::Flag* FlagSet::Find(absl::string_view name) const {
  for (const Flag& flag : flags_) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

absl::Status FlagSet::Unknown(const std::string& argument, absl::string_view name) const {
  std::vector<std::string> names;
  for (const Flag& flag : flags_) names.push_back(flag.name);
  const std::string nearest = Nearest(name, names);
  std::string message = absl::StrCat("unknown flag ", argument);
  if (!nearest.empty()) absl::StrAppend(&message, "; did you mean --", nearest, "?");
  return absl::InvalidArgumentError(message);
}

absl::StatusOr<std::vector<std::string>> FlagSet::Parse(const std::vector<std::string>& arguments) const {
  std::vector<std::string> rest;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--") {
      rest.insert(rest.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1, arguments.end());
      break;
    }
    if (argument.size() < 2 || argument[0] != '-') {
      rest.push_back(argument);
      continue;
    }
    const size_t equals = argument.find('=');
    const std::string spelled = argument.substr(0, equals);
    absl::string_view name = spelled;
    if (!absl::ConsumePrefix(&name, "--")) return Unknown(spelled, absl::StripPrefix(spelled, "-"));
    const Flag* flag = Find(name);
    bool on = true;
    if (flag == nullptr && absl::StartsWith(name, "no-")) {
      flag = Find(name.substr(3));
      if (flag != nullptr && !flag->placeholder.empty()) flag = nullptr;
      on = false;
    }
    if (flag == nullptr) return Unknown(spelled, name);
    std::string value = on ? "true" : "false";
    if (flag->placeholder.empty()) {
      if (equals != std::string::npos) {
        return absl::InvalidArgumentError(
            absl::StrCat(spelled, " takes no value; write --", flag->name, " or --no-", flag->name));
      }
    } else if (equals != std::string::npos) {
      value = argument.substr(equals + 1);
    } else if (i + 1 < arguments.size()) {
      value = arguments[++i];
    } else {
      return absl::InvalidArgumentError(absl::StrCat(spelled, " needs a value: ", spelled, " ", flag->placeholder));
    }
    const absl::Status status = flag->set(value);
    if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat(spelled, ": ", status.message()));
  }
  return rest;
}

std::string FlagSet::Help() const {
  std::string out;
  absl::string_view group;
  for (const Flag& flag : flags_) {
    if (flag.group != group) {
      group = flag.group;
      absl::StrAppend(&out, "\n", group, ":\n");
    }
    const std::string head = absl::StrCat("  --", flag.name, flag.placeholder.empty() ? "" : " ", flag.placeholder);
    absl::StrAppend(&out, head);
    const int column = static_cast<int>(head.size());
    if (column + 2 > kHelpColumn) {
      absl::StrAppend(&out, "\n", std::string(kHelpColumn, ' '));
    } else {
      absl::StrAppend(&out, std::string(kHelpColumn - column, ' '));
    }
    AppendWrapped(flag.help, kHelpColumn, &out);
  }
  return out;
}

}  // namespace megakernel::cli
