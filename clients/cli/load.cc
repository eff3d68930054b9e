// `megakernel load`: drives a server and measures it where it counts, at each token.
#include <unistd.h>

#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "clients/cli/command.h"
#include "clients/cli/interrupts.h"
#include "clients/cli/load_run.h"

namespace megakernel::cli {
namespace {

constexpr HelpPage kPage = {
    "megakernel load [flags]",
    "Makes many calls and measures each token when it is received: time to first token (ttft), between tokens (itl),\n"
    "per token after the first (tpot) and to the last one (e2e), tokens and calls a second, and with --slo how many\n"
    "calls were good. A closed loop (--concurrency) waits for answers; an open one (--rate) does not, and its times\n"
    "count from when a call was due, so a server that stalls cannot hide it. Tokens that come in one message are 0 ms\n"
    "apart. Equal flags make equal load. Plots: clients/load/plot.py, from the lines of --json.\n"
    "Exit status 1 if a call failed that was not meant to.",
    "  megakernel load --calls 200 --concurrency 1,2,4,8,16 --warm-up 20          # throughput against latency\n"
    "  megakernel load --rate 5,10,20 --duration 30 --slo ttft=80ms,itl=5ms       # how many calls a second are good\n"
    "  megakernel load --concurrency 64 --connections 4 --prompt-tokens 128 --output-tokens 128 --calls 1000\n"
    "  megakernel load --concurrency 8 --cancel-at 10 --cancel-share 0.5          # clients that go away\n"
    "  megakernel load --concurrency 8 --read-delay 20ms --slow-share 0.25        # clients that read slowly\n"
    "  megakernel load --concurrency 4 --turns 5 --calls 100                      # conversations on sessions\n"
    "  megakernel load --concurrency 1,4,16 --json > runs.jsonl                   # for programs and plots",
};

constexpr int kBarWidth = 30;

// A bar on stderr that is drawn over itself.
void DrawProgress(const std::string& label, double share, std::int64_t running, const LoadResult& result) {
  const int full = static_cast<int>(share * kBarWidth);
  absl::FPrintF(stderr, "\r\x1b[K%s [%s%s] %3.0f %%  %d running  %d ended  %d tokens", label,
                std::string(static_cast<std::size_t>(full), '#'),
                std::string(static_cast<std::size_t>(kBarWidth - full), '.'), share * 100, running, result.sent,
                result.tokens);
  std::fflush(stderr);
}

// Connects, and asks what prompts may be made of. False when it failed and said so; `*exit_status` then.
bool Prepare(const Invocation& invocation, Interrupts* interrupts, const LoadSettings& settings, LoadTarget* target,
             int* exit_status) {
  *exit_status = kExitFailed;
  for (std::int32_t i = 0; i < settings.connections; ++i) {
    target->connections.push_back(invocation.Connect(interrupts));
    if (target->connections.back() == nullptr) return false;
  }
  const auto model = target->connections[0]->GetModel(target->call_options);
  if (!model.ok()) {
    *exit_status = invocation.Fail(model.error());
    return false;
  }
  target->vocab_size = model.value().vocab_size();
  target->eos_token_ids.assign(model.value().eos_token_ids().begin(), model.value().eos_token_ids().end());
  *exit_status = kExitOk;
  return true;
}

std::vector<LoadResult> RunPoints(const Invocation& invocation, const LoadSettings& settings, LoadTarget& target) {
  const bool draws = !invocation.json() && isatty(STDERR_FILENO) != 0;
  std::vector<LoadResult> results;
  for (std::size_t i = 0; i < settings.points() && !*target.stop; ++i) {
    const std::int32_t concurrency = settings.open() ? 0 : settings.concurrency[i];
    const double rate = settings.open() ? settings.rates[i] : 0;
    if (settings.warm_up > 0) LoadRun(settings, target, concurrency, rate).Run(settings.warm_up, 0, nullptr);
    LoadRun::OnProgress on_progress;
    if (draws) {
      const std::string label =
          settings.open() ? absl::StrFormat("%g calls/s", rate) : absl::StrFormat("%d callers", concurrency);
      on_progress = [label](double share, std::int64_t running, const LoadResult& result) {
        DrawProgress(label, share, running, result);
      };
    }
    results.push_back(
        LoadRun(settings, target, concurrency, rate).Run(settings.calls, settings.seconds, std::move(on_progress)));
    if (draws) absl::FPrintF(stderr, "\r\x1b[K");
    if (invocation.json()) Print(LoadJson(results.back(), settings));
  }
  return results;
}

}  // namespace

int RunLoad(const Arguments& arguments) {
  LoadSettings settings;
  Invocation invocation(kPage);
  settings.concurrency.clear();  // so that it is seen whether one was given
  AddLoadFlags(invocation.flags(), &settings);
  if (!invocation.Parse(arguments, 0)) return invocation.exit_status();
  const bool concurrency_given = !settings.concurrency.empty();
  if (!concurrency_given) settings.concurrency = {1};
  const absl::Status status = CheckLoad(settings, concurrency_given);
  if (!status.ok()) return invocation.Misuse(status.message());

  Interrupts interrupts;  // before the connections start threads
  client::CancelToken cancel;
  std::atomic<bool> stop = false;
  LoadTarget target;
  target.call_options = invocation.call_options(&cancel);
  target.stop = &stop;
  int exit_status = kExitOk;
  if (!Prepare(invocation, &interrupts, settings, &target, &exit_status)) return exit_status;

  std::vector<LoadResult> results;
  const int signal = interrupts.During(
      [&] {
        stop = true;
        cancel.Cancel();
      },
      [&] { results = RunPoints(invocation, settings, target); });
  if (!invocation.json()) Print(LoadTable(results, settings));
  if (signal != 0) return 128 + signal;
  for (const LoadResult& result : results) {
    if (result.failed() > 0 || !result.errors.empty()) exit_status = kExitFailed;
  }
  return exit_status;
}

}  // namespace megakernel::cli
