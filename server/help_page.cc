#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/command_line.h"

namespace megakernel {
namespace {

constexpr std::size_t kWidth = 100;
constexpr std::size_t kIndent = 6;

constexpr char kIntroduction[] = R"(megakernel-server: serves one language model over gRPC (package megakernel.v1).

Usage
  megakernel-server --model PATH [flags]
  megakernel-server --config FILE [flags]

Examples
  megakernel-server --model SmolLM2-135M-Instruct.Q4_1.gguf
  megakernel-server --model m.gguf --device cpu --threads 8 --kv-memory 4GiB
  megakernel-server --device fake --fake-step-time 1ms
then
  megakernel generate "The capital of France is"
  grpcurl -plaintext 127.0.0.1:50051 list
)";

constexpr char kConclusion[] = R"(
The file is one JSON object of groups, comments allowed; errors name the file and the key:
  {"model": {"path": "m.gguf"}, "executor": {"threads": 8}, "limits": {"max_queue": 64, "session_ttl": "30m"}}

Signals
  SIGTERM, SIGINT  health turns to NOT_SERVING, new calls are refused with UNAVAILABLE, running ones may finish within
                   --drain-timeout. A second signal ends them at once.
  SIGHUP           reads again what may change while the server runs: log level, certificate, tokens.

Exit status
  0  served until a signal
  1  a failure while starting to listen or while serving
  2  wrong flags, configuration or model, or too little memory for them; nothing was served
)";

void AppendWrapped(const std::string& text, std::string& page) {
  std::size_t column = 0;
  for (absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (column == 0 || column + 1 + word.size() > kWidth) {
      absl::StrAppend(&page, column == 0 ? "" : "\n", std::string(kIndent, ' '), word);
      column = kIndent + word.size();
    } else {
      absl::StrAppend(&page, " ", word);
      column += 1 + word.size();
    }
  }
  page += "\n";
}

std::string Allowed(const Option& option) {
  const auto range = [&](const std::string& low, const std::string& high) {
    return absl::StrCat(" Range ", low, " to ", high, ".");
  };
  switch (option.kind) {
    case OptionKind::kChoice:
      return absl::StrCat(
          " One of ", absl::StrJoin(std::vector<std::string>(option.choices.begin(), option.choices.end()), ", "), ".");
    case OptionKind::kInteger:
      return range(absl::StrCat(option.min), absl::StrCat(option.max));
    case OptionKind::kDuration:
      return range(absl::FormatDuration(absl::Milliseconds(option.min)),
                   absl::FormatDuration(absl::Milliseconds(option.max)));
    default:
      return "";
  }
}

void AppendOption(const Option& option, std::string& page) {
  absl::StrAppend(&page, "  --", option.kind == OptionKind::kBool ? "[no-]" : "", std::string(option.flag));
  if (!option.value_name.empty()) absl::StrAppend(&page, " ", std::string(option.value_name));
  if (!option.path.empty()) absl::StrAppend(&page, "  [", std::string(option.path), "]");
  page += "\n";
  std::string text = absl::StrCat(std::string(option.help), Allowed(option));
  const std::string value = OptionText(option, ServerOptions());
  if (!value.empty()) absl::StrAppend(&text, " Default: ", value);
  if (!option.auto_means.empty()) absl::StrAppend(&text, ", ", std::string(option.auto_means));
  if (!value.empty()) text += ".";
  AppendWrapped(text, page);
}

}  // namespace

std::string HelpPage() {
  std::string page = kIntroduction;
  std::string_view section;
  for (const Option& option : Options()) {
    if (option.section != section) {
      section = option.section;
      absl::StrAppend(&page, "\n", std::string(section), "\n");
    }
    AppendOption(option, page);
  }
  absl::StrAppend(&page, "\n  --help\n      This page.\n  --version\n      Prints the version.\n", kConclusion);
  return page;
}

}  // namespace megakernel
