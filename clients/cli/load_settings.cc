#include "clients/cli/load_settings.h"

#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"

namespace megakernel::cli {
namespace {

constexpr std::int32_t kMaxConcurrency = 10'000;
constexpr std::int32_t kMaxConnections = 1'000;
constexpr double kMaxRate = 100'000;

FlagSet::Setter Number(std::int32_t low, std::int32_t high, std::int32_t* target) {
  return [=](const std::string& text) {
    const absl::Status status = ParseInt32(text, target);
    if (!status.ok() || (*target >= low && *target <= high)) return status;
    return absl::InvalidArgumentError(absl::StrCat("expected ", low, " to ", high, ", got '", text, "'"));
  };
}

FlagSet::Setter Share(double* target) {
  return [=](const std::string& text) {
    if (absl::SimpleAtod(text, target) && *target >= 0 && *target <= 1) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("expected a share from 0 to 1, got '", text, "'"));
  };
}

absl::Status ParseMilliseconds(const std::string& text, double* target) {
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration) || duration <= absl::ZeroDuration() ||
      duration == absl::InfiniteDuration()) {
    return absl::InvalidArgumentError(absl::StrCat("expected a time such as 80ms, got '", text, "'"));
  }
  *target = absl::ToDoubleMilliseconds(duration);
  return absl::OkStatus();
}

absl::Status ParseRates(const std::string& text, std::vector<double>* rates) {
  rates->clear();
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    double rate = 0;
    if (!absl::SimpleAtod(part, &rate) || !(rate > 0 && rate <= kMaxRate)) {
      return absl::InvalidArgumentError(absl::StrCat("expected calls a second, above 0, got '", part, "'"));
    }
    rates->push_back(rate);
  }
  return absl::OkStatus();
}

absl::Status ParseConcurrency(const std::string& text, std::vector<std::int32_t>* concurrency) {
  const auto values = ParseInt32List(text);
  if (!values.ok()) return values.status();
  for (const std::int32_t value : *values) {
    if (value >= 1 && value <= kMaxConcurrency) continue;
    return absl::InvalidArgumentError(absl::StrCat("expected 1 to ", kMaxConcurrency, ", got ", value));
  }
  *concurrency = *values;
  return absl::OkStatus();
}

void AddRequestFlags(FlagSet* flags, LoadSettings* settings) {
  flags->Group("Requests");
  flags->Value("prompt-tokens", "N", "Tokens of each prompt, drawn at random. Default: 32.",
               Number(1, 1 << 20, &settings->prompt_tokens));
  flags->Value("shared-prefix", "N", "Of these, the first N are the same in every prompt. Default: 0.",
               Number(0, 1 << 20, &settings->shared_prefix));
  flags->Text("prompt", "TEXT", "The same text as every prompt instead.", &settings->prompt);
  flags->Value("output-tokens", "N",
               "Tokens that each call generates, exactly: the end of sequence is ignored. "
               "Default: 64.",
               Number(1, 1 << 20, &settings->output_tokens));
  flags->Value("turns", "N", "Calls on each session, one after the other; each adds a prompt. Default: no sessions.",
               Number(1, 10'000, &settings->turns));
}

void AddMisbehaviourFlags(FlagSet* flags, LoadSettings* settings) {
  flags->Group("Clients that misbehave");
  flags->Value("cancel-at", "K", "Calls are cancelled once they have K tokens; they count apart. Default: never.",
               Number(1, 1 << 20, &settings->cancel_at));
  flags->Value("cancel-share", "X", "Of calls, the share that is cancelled. Default: 1.",
               Share(&settings->cancel_share));
  flags->Value("read-delay", "TIME",
               "Slow readers wait this long before each message (20ms); their times are left "
               "out. Default: none are slow.",
               [settings](const std::string& text) { return ParseMilliseconds(text, &settings->read_delay_ms); });
  flags->Value("slow-share", "X", "Of calls, the share that reads slowly. Default: 1.", Share(&settings->slow_share));
}

}  // namespace

absl::Status ParseObjective(const std::string& text, LoadObjective* objective) {
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<std::string> pair = absl::StrSplit(part, absl::MaxSplits('=', 1));
    double milliseconds = 0;
    const absl::Status status =
        pair.size() == 2 ? ParseMilliseconds(pair[1], &milliseconds) : absl::InvalidArgumentError("");
    if (pair.size() != 2 || (pair[0] != "ttft" && pair[0] != "itl" && pair[0] != "tpot" && pair[0] != "e2e")) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected ttft=TIME, itl=TIME, tpot=TIME or e2e=TIME, got '", part, "'"));
    }
    if (!status.ok()) return status;
    std::optional<double>& bound = pair[0] == "ttft"   ? objective->ttft_ms
                                   : pair[0] == "itl"  ? objective->itl_ms
                                   : pair[0] == "tpot" ? objective->tpot_ms
                                                       : objective->e2e_ms;
    bound = milliseconds;
  }
  return absl::OkStatus();
}

void AddLoadFlags(FlagSet* flags, LoadSettings* settings) {
  flags->Group("Load");
  flags->Value("concurrency", "N,N,...",
               "Closed loop: N callers, each calls again when it has its answer. Several: "
               "one run after the other. Default: 1.",
               [settings](const std::string& text) { return ParseConcurrency(text, &settings->concurrency); });
  flags->Value("rate", "X,X,...",
               "Open loop: X calls a second at random (Poisson), whatever the answers; times count "
               "from when a call was due.",
               [settings](const std::string& text) { return ParseRates(text, &settings->rates); });
  flags->Value("calls", "N", "Calls of each run. Default: 100.", Number(1, 100'000'000, &settings->calls));
  flags->Seconds("duration", "Instead of --calls: as many as begin within this time.", &settings->seconds);
  flags->Value("warm-up", "N", "Calls before each run that do not count. Default: 0.",
               Number(0, 1'000'000, &settings->warm_up));
  flags->Value("connections", "N", "TCP connections that the calls share. Default: 1.",
               Number(1, kMaxConnections, &settings->connections));
  flags->Value("seed", "N", "Of arrivals, prompts and who misbehaves: the same load again. Default: 1.",
               [settings](const std::string& text) { return ParseUint64(text, &settings->seed); });
  flags->Value("slo", "LIST", "Counts the calls that were good: ttft=80ms,itl=5ms,tpot=4ms,e2e=2s, any of them.",
               [settings](const std::string& text) { return ParseObjective(text, &settings->objective); });
  AddRequestFlags(flags, settings);
  AddMisbehaviourFlags(flags, settings);
}

absl::Status CheckLoad(const LoadSettings& settings, bool concurrency_given) {
  if (settings.open() && concurrency_given) {
    return absl::InvalidArgumentError("--concurrency is a closed loop and --rate an open one; choose one");
  }
  if (settings.shared_prefix > settings.prompt_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("--shared-prefix ", settings.shared_prefix,
                                                   " is longer than --prompt-tokens ", settings.prompt_tokens));
  }
  if (settings.cancel_at > settings.output_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("--cancel-at ", settings.cancel_at, " never comes: --output-tokens is ", settings.output_tokens));
  }
  if (settings.cancel_at == 0 && settings.cancel_share != 1) {
    return absl::InvalidArgumentError("--cancel-share needs --cancel-at");
  }
  if (settings.read_delay_ms == 0 && settings.slow_share != 1) {
    return absl::InvalidArgumentError("--slow-share needs --read-delay");
  }
  return absl::OkStatus();
}

}  // namespace megakernel::cli
