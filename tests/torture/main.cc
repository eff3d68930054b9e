// megakernel-torture: what the server must survive, in a process of its own for each row.
//
//   megakernel-torture [--brief] [--json] [--row NAME]... [--fault NAME]
//   megakernel-torture --prove [--row NAME]...     each row with each of its faults: it must fail
//   megakernel-torture --list
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "tests/torture/row.h"

namespace megakernel::torture {
namespace {

using Json = nlohmann::ordered_json;

const std::vector<Row>& Rows() {
  static const std::vector<Row> rows = {
      {"cancellations", &Cancellations, {Fault::kLoseFinish, Fault::kDropCancel}},
      {"slow and never readers", &SlowReaders, {Fault::kStallBesideSlow}},
      {"half-open TCP", &HalfOpen, {Fault::kNoKeepalive}},
      {"short deadlines", &Deadlines, {Fault::kDropCancel}},
      {"KV exhaustion", &KvExhaustion, {Fault::kPlenty}},
      {"frozen executor", &FrozenExecutor, {Fault::kDeafWatchdog}},
      {"stream = late = loop = replay", &SameTokens, {Fault::kWrongToken}},
      {"two tenants", &TwoTenants, {Fault::kOneTenant}},
      {"disk full while saving", &FullDisk, {Fault::kDiskHasRoom}},
      {"connections and GOAWAY", &Connections, {Fault::kWrongToken, Fault::kLeakFd}, /*long_only=*/true},
      {"message and metadata sizes", &Sizes, {Fault::kSmallRequest}},
      {"clock jumps", &ClockJumps, {Fault::kForwardClock}},
      {"soak", &Soak, {Fault::kLeakMemory, Fault::kLeakFd, Fault::kLeakThread}},
  };
  return rows;
}

struct Result {
  Outcome outcome;
  double seconds = 0;
};

// Runs the row in a child, so that it starts clean and a hang ends with it.
Result RunRow(const Row& row, const Setting& setting, absl::Duration limit) {
  int ends[2];
  if (pipe(ends) != 0) return {{.figure = "no pipe", .threshold = "", .passed = false}};
  const absl::Time start = absl::Now();
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    const Outcome outcome = row.run(setting);
    const std::string text =
        Json{{"figure", outcome.figure}, {"threshold", outcome.threshold}, {"passed", outcome.passed}}.dump();
    const bool written = write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    _exit(written ? 0 : 1);
  }
  close(ends[1]);
  std::string text;
  char buffer[4096];
  bool late = false;
  for (;;) {
    pollfd waits = {ends[0], POLLIN, 0};
    const auto left = absl::ToInt64Milliseconds(start + limit - absl::Now());
    late = left <= 0 || poll(&waits, 1, static_cast<int>(left)) <= 0;
    if (late) break;
    const ssize_t got = read(ends[0], buffer, sizeof buffer);
    if (got <= 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  close(ends[0]);
  if (late) kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  Result result;
  result.seconds = absl::ToDoubleSeconds(absl::Now() - start);
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_object()) {
    result.outcome = {.figure = json["figure"], .threshold = json["threshold"], .passed = json["passed"]};
  } else {
    result.outcome.figure =
        late ? absl::StrFormat("did not end within %d s", absl::ToInt64Seconds(limit))
             : absl::StrFormat("ended with status %d, signal %d", WEXITSTATUS(status), WTERMSIG(status));
  }
  return result;
}

struct Arguments {
  Setting setting;
  bool json = false;
  bool prove = false;
  bool list = false;
  std::vector<std::string> rows;
};

bool Parse(int argc, char** argv, Arguments& arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--brief") {
      arguments.setting.brief = true;
    } else if (word == "--json") {
      arguments.json = true;
    } else if (word == "--prove") {
      arguments.prove = arguments.setting.brief = true;
    } else if (word == "--list") {
      arguments.list = true;
    } else if (word == "--row" && i + 1 < argc) {
      arguments.rows.push_back(argv[++i]);
    } else if (word == "--fault" && i + 1 < argc) {
      const std::string name = argv[++i];
      for (const FaultName& entry : FaultNames()) {
        if (entry.name == name) arguments.setting.fault = entry.fault;
      }
      if (arguments.setting.fault == Fault::kNone) return false;
    } else {
      return false;
    }
  }
  return true;
}

bool Wanted(const Row& row, const Arguments& arguments) {
  if (arguments.rows.empty()) return true;
  for (const std::string& name : arguments.rows) {
    if (row.name == name) return true;
  }
  return false;
}

void Report(const Arguments& arguments, std::string_view name, const std::string& with, const Result& result,
            bool good) {
  const Outcome& outcome = result.outcome;
  if (arguments.json) {
    Json line = {{"row", name},
                 {"figure", outcome.figure},
                 {"threshold", outcome.threshold},
                 {"seconds", result.seconds},
                 {"passed", good}};
    if (!with.empty()) line["fault"] = with;
    std::printf("%s\n", line.dump().c_str());
  } else {
    std::printf("%-4s %-30s %6.1f s  %s%s\n%46s[%s]\n", good ? "ok" : "FAIL", std::string(name).c_str(), result.seconds,
                with.empty() ? "" : absl::StrCat("with ", with, ": ").c_str(), outcome.figure.c_str(), "",
                outcome.threshold.c_str());
  }
  std::fflush(stdout);
}

int Main(int argc, char** argv) {
  Arguments arguments;
  if (!Parse(argc, argv, arguments)) {
    std::fprintf(stderr,
                 "usage: megakernel-torture [--brief] [--json] [--row NAME]... [--fault NAME | --prove] | --list\n");
    return 2;
  }
  const absl::Duration limit = arguments.setting.brief ? absl::Seconds(60) : absl::Minutes(10);
  bool all = true;
  for (const Row& row : Rows()) {
    if (!Wanted(row, arguments)) continue;
    if (row.long_only && arguments.setting.brief && !arguments.prove && arguments.rows.empty()) continue;
    if (arguments.list) {
      std::printf("%s:", std::string(row.name).c_str());
      for (const Fault fault : row.faults) std::printf(" %s", std::string(NameOf(fault)).c_str());
      std::printf("\n");
    } else if (arguments.prove) {
      for (const Fault fault : row.faults) {
        const Result result = RunRow(row, {.brief = true, .fault = fault}, limit);
        all = all && !result.outcome.passed;
        Report(arguments, row.name, std::string(NameOf(fault)), result, !result.outcome.passed);
      }
    } else {
      const Result result = RunRow(row, arguments.setting, limit);
      all = all && result.outcome.passed;
      Report(arguments, row.name,
             arguments.setting.fault == Fault::kNone ? "" : std::string(NameOf(arguments.setting.fault)), result,
             result.outcome.passed);
    }
  }
  return all ? 0 : 1;
}

}  // namespace
}  // namespace megakernel::torture

int main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);  // as the server does
  return megakernel::torture::Main(argc, argv);
}
