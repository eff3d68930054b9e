#include "server/shutdown.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "spdlog/spdlog.h"

namespace megakernel {
namespace {

constexpr int kFailureSignal = SIGUSR1;
// Beyond the drain timeout: for streams to send their last message, watchers of the health to go, threads to join.
constexpr absl::Duration kFlushTime = absl::Seconds(1);
constexpr absl::Duration kWatchersTime = absl::Milliseconds(200);
constexpr absl::Duration kHardExitMargin = absl::Seconds(10);
// After a failure: for the engine to end its streams; then for whatever else would like to.
constexpr absl::Duration kFailedStreamsTime = absl::Milliseconds(500);
constexpr absl::Duration kFailedExitMargin = absl::Seconds(3);
constexpr absl::Duration kLoadPoll = absl::Milliseconds(20);

sigset_t Signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGHUP);
  sigaddset(&set, kFailureSignal);
  return set;
}

// The signal that came within `timeout`, or 0.
int WaitSignal(absl::Duration timeout) {
  const sigset_t set = Signals();
  const timespec limit = absl::ToTimespec(timeout);
  const int signal = sigtimedwait(&set, nullptr, &limit);
  return signal > 0 ? signal : 0;
}

// The same, SIGHUP aside: there is no time to reload any more.
int WaitEnd(absl::Duration timeout) {
  const SteadyClock clock;
  const absl::Time deadline = clock.Now() + timeout;
  int signal = SIGHUP;
  while (signal == SIGHUP) signal = WaitSignal(std::max(absl::ZeroDuration(), deadline - clock.Now()));
  return signal;
}

// From here on the process ends within `limit`, whatever hangs.
void LimitRemainingLife(absl::Duration limit) {
  signal(SIGALRM, [](int) {
    constexpr char kMessage[] = "megakernel-server: shutting down took too long: exit\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
    _exit(1);
  });
  alarm(static_cast<unsigned>(absl::ToInt64Seconds(absl::Ceil(limit, absl::Seconds(1)))));
}

// Waits for the open calls; false when the time was over or a signal came.
bool WaitForCalls(Server& server, absl::Duration timeout) {
  const SteadyClock clock;
  const absl::Time deadline = clock.Now() + timeout;
  while (!server.WaitCalls(absl::ZeroDuration())) {
    if (clock.Now() >= deadline) return false;
    if (WaitEnd(absl::Milliseconds(20)) != 0) {
      spdlog::warn("shutdown second signal: ending at once open_calls={}", server.open_calls());
      return false;
    }
  }
  return true;
}

// Health says NOT_SERVING, calls still come in. False when a second signal came.
bool WaitForBalancers(Server& server, absl::Duration delay) {
  server.SetServing(false);
  return delay == absl::ZeroDuration() || WaitEnd(delay) == 0;
}

}  // namespace

void BlockSignals() {
  const sigset_t set = Signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

absl::Status AwaitLoaded(const Loading& loading, Server& server) {
  while (true) {
    const int signal = WaitSignal(kLoadPoll);
    if (const auto result = loading.result(); result.has_value()) {
      if (signal != 0) kill(getpid(), signal);  // for whoever serves next
      return *result;
    }
    // A failure has a result soon, and what is reloaded is only being loaded.
    if (signal == 0 || signal == kFailureSignal || signal == SIGHUP) continue;
    spdlog::info("shutdown reason={} while=loading", strsignal(signal));
    LimitRemainingLife(kHardExitMargin);
    server.Drain();
    server.Stop(kWatchersTime);
    spdlog::info("shutdown done");
    spdlog::shutdown();
    _exit(0);
  }
}

void NotifyFailure() {
  kill(getpid(), kFailureSignal);
}

bool RunUntilSignal(Server& server, Engine& engine, const EndOptions& options) {
  int signal = 0;
  while (signal == 0 || signal == SIGHUP) {
    signal = WaitSignal(absl::Hours(1));
    if (signal == SIGHUP) options.reload();
  }
  const bool failed = signal == kFailureSignal;
  const absl::Duration drain_delay = failed ? absl::ZeroDuration() : options.drain_delay;
  absl::Duration drain_timeout = failed ? kFailedStreamsTime : options.drain_timeout;
  LimitRemainingLife(drain_delay + drain_timeout + (failed ? kFailedExitMargin : kHardExitMargin));
  spdlog::info("shutdown reason={} open_calls={} drain_timeout_ms={}", failed ? "executor_failed" : strsignal(signal),
               server.open_calls(), absl::ToInt64Milliseconds(drain_timeout));
  const EngineStats stats = engine.Stats();
  spdlog::info("shutdown in_use sequences={} waiting={} sessions={} pages={}", stats.sequences_running,
               stats.requests_waiting, stats.sessions, stats.pages_used);
  if (!WaitForBalancers(server, drain_delay)) drain_timeout = absl::ZeroDuration();
  server.Drain();
  if (!WaitForCalls(server, drain_timeout)) {
    spdlog::warn("shutdown ending open_calls={}", server.open_calls());
    LimitRemainingLife(failed ? kFailedExitMargin : kHardExitMargin);
  }
  // An engine that hangs cannot end them.
  if (const absl::Status health = engine.Health(); !health.ok()) server.EndCalls(health);
  engine.Shutdown(absl::ZeroDuration());
  server.WaitCalls(kFlushTime);
  server.Stop(kWatchersTime);
  const absl::Status health = engine.Health();  // it may have failed meanwhile
  spdlog::info("shutdown done");
  return !failed && health.ok();
}

}  // namespace megakernel
