// megakernel-bench cpu: speed of the CPU executor beside the floor of this machine, measured in the same run.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/cpu/cpu_executor.h"
#include "engine/cpu/processor_count.h"
#include "tests/bench/arguments.h"
#include "tests/bench/read_bandwidth.h"
#include "tests/bench/subcommand.h"

namespace megakernel::bench {
namespace {

constexpr char kName[] = "cpu";
constexpr char kSummary[] =
    "Runs the CPU executor in this process on random tokens, greedy, and prints for each case the median and the best "
    "of\n"
    "several runs beside the floor: the bytes of the packed weights over the read bandwidth measured in the same run.\n"
    "tests/bench/llama_cpp_peer.py adds llama.cpp's figures for the same cases.";
constexpr Option kOptions[] = {
    {"model", "PATH", nullptr, "a model file or directory"},
    {"threads", "N", "0", "0: as many as affinity and control groups allow"},
    {"isa", "NAME", "auto", "auto, avx512, avx2 or plain"},
    {"runs", "N", "5", "runs of each case"},
    {"cases", "LIST", "", "comma-separated names; empty: all"},
    {"json", nullptr, nullptr, "print JSON"},
};

using Time = std::chrono::steady_clock::time_point;

double Seconds(Time from, Time to) {
  return std::chrono::duration<double>(to - from).count();
}

struct Case {
  const char* name;
  int streams;
  int prompt;   // tokens of each
  int output;   // tokens of each
  bool decode;  // what is measured: the time of decoding after each stream's first token; else to the last first token
};

// prompt_512 and ttft_64 are the same measurement at two lengths, as tokens per second and as a time.
constexpr Case kCases[] = {
    {"decode_1", 1, 8, 96, true},   {"decode_1_depth_1024", 1, 1024, 64, true}, {"decode_8", 8, 8, 48, true},
    {"decode_32", 32, 8, 32, true}, {"prefill_512", 1, 512, 1, false},          {"ttft_64", 1, 64, 1, false},
};

// The tokens of a stream: from its number, without the ids below 100 that tokenizers keep for control.
std::vector<TokenId> Prompt(int length, int stream, int vocab) {
  std::vector<TokenId> tokens;
  std::uint32_t state = 12345u + static_cast<std::uint32_t>(stream);
  for (int i = 0; i < length; ++i) {
    state = state * 1664525u + 1013904223u;
    tokens.push_back(static_cast<TokenId>(100 + (state >> 8) % static_cast<std::uint32_t>(vocab - 100)));
  }
  return tokens;
}

class Bench {
 public:
  explicit Bench(Executor& executor) : executor_(executor) {}

  // Seconds of the measured part; `tokens` gets how many tokens it took or made.
  double Run(const Case& c, int& tokens) {
    const Time start = std::chrono::steady_clock::now();
    const int pages = layout::PagesFor(c.prompt + c.output, executor_.info().page_tokens);
    for (int s = 0; s < c.streams; ++s) Submit(c, s, pages);
    int finished = 0, first_tokens = 0;
    Time first = start;
    std::vector<bool> seen(static_cast<std::size_t>(c.streams), false);
    std::vector<Event> events;
    tokens = 0;
    while (finished < c.streams) {
      executor_.Wait(absl::Seconds(1));
      events.clear();
      executor_.Drain(events);
      const Time now = std::chrono::steady_clock::now();
      // Decoding is measured from the moment when all streams decode; what came with that event came before it.
      const bool all_decode = first_tokens == c.streams;
      for (const Event& event : events) {
        if (event.type == EventType::kFinished) ++finished;
        if (event.type != EventType::kToken) continue;
        if (all_decode) ++tokens;
        if (!seen[event.lane]) {
          seen[event.lane] = true;
          if (++first_tokens == c.streams) first = now;
        }
      }
      MK_CHECK(executor_.Health().ok());
    }
    if (c.decode) return Seconds(first, std::chrono::steady_clock::now());
    tokens = c.prompt * c.streams;
    return Seconds(start, first);
  }

 private:
  void Submit(const Case& c, int stream, int pages) {
    Admit admit;
    admit.lane = stream;
    admit.epoch = ++epoch_;
    admit.order = epoch_;
    admit.tokens = Prompt(c.prompt, stream, executor_.info().vocab);
    admit.output_start = c.prompt;
    admit.token_limit = c.prompt + c.output;
    admit.sampling.temperature = 0.0f;
    for (int p = 0; p < pages; ++p) admit.pages.push_back(stream * pages + p);
    const absl::Status status = executor_.Submit(std::move(admit));
    MK_CHECK(status.ok());
  }

  Executor& executor_;
  std::uint32_t epoch_ = 0;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

nlohmann::json Measure(Bench& bench, const Case& c, int runs, double floor_ms) {
  std::vector<double> rates, times;
  int tokens = 0;
  bench.Run(c, tokens);  // warm-up
  for (int run = 0; run < runs; ++run) {
    const double seconds = bench.Run(c, tokens);
    times.push_back(seconds * 1e3);
    rates.push_back(tokens / seconds);
  }
  nlohmann::json result = {{"streams", c.streams},
                           {"prompt_tokens", c.prompt},
                           {"tokens_per_s_median", Median(rates)},
                           {"tokens_per_s_best", *std::max_element(rates.begin(), rates.end())}};
  if (!c.decode) {
    result["ms_median"] = Median(times);
    result["ms_best"] = *std::min_element(times.begin(), times.end());
  } else {
    result["floor_tokens_per_s"] = c.streams * 1e3 / floor_ms;
  }
  return result;
}

bool Chosen(const std::string& list, const std::string& name) {
  return list.empty() || absl::StrCat(",", list, ",").find(absl::StrCat(",", name, ",")) != std::string::npos;
}

void PrintTable(const nlohmann::json& report) {
  std::printf("%s; weights %.1f MB, read bandwidth %.1f GB/s (best %.1f), floor %.2f ms a step\n",
              report["device"].get<std::string>().c_str(), report["weight_bytes"].get<double>() / 1e6,
              report["read_gb_per_s_median"].get<double>(), report["read_gb_per_s_best"].get<double>(),
              report["floor_ms_per_step"].get<double>());
  std::printf("%-22s %12s %12s %12s %10s\n", "case", "tok/s median", "best", "floor", "ms median");
  for (const auto& [name, c] : report["cases"].items()) {
    std::printf("%-22s %12.1f %12.1f %12.1f %10.2f\n", name.c_str(), c["tokens_per_s_median"].get<double>(),
                c["tokens_per_s_best"].get<double>(), c.value("floor_tokens_per_s", 0.0), c.value("ms_median", 0.0));
  }
}

absl::StatusOr<nlohmann::json> Report(const Arguments& args) {
  const auto threads = args.Int("threads", 0, 256);
  const auto runs = args.Int("runs", 1, 1000);
  const auto isa = ParseCpuIsa(args.Text("isa"));
  if (!threads.ok()) return threads.status();
  if (!runs.ok()) return runs.status();
  if (!isa.ok()) return isa.status();
  auto model = LoadModel(args.Text("model"));
  if (!model.ok()) return model.status();
  CpuOptions options;
  options.threads = *threads == 0 ? cpu::UsableProcessors() : static_cast<std::int32_t>(*threads);
  options.isa = *isa;
  options.max_context = std::min(2048, (*model)->config().max_context);
  auto executor = NewCpuExecutor(**model, options);
  if (!executor.ok()) return executor.status();

  const ExecutorInfo& info = (*executor)->info();
  const std::vector<double> bandwidth = ReadBandwidth(options.threads, static_cast<int>(*runs) + 1);
  const double best = *std::max_element(bandwidth.begin(), bandwidth.end());
  const double floor_ms = static_cast<double>(info.weight_bytes) / best / 1e6;
  nlohmann::json report = {{"device", info.device},
                           {"model", (*model)->config().name},
                           {"threads", options.threads},
                           {"runs", *runs},
                           {"weight_bytes", info.weight_bytes},
                           {"read_gb_per_s_median", Median(bandwidth)},
                           {"read_gb_per_s_best", best},
                           {"floor_ms_per_step", floor_ms}};
  Bench bench(**executor);
  for (const Case& c : kCases) {
    if (!Chosen(args.Text("cases"), c.name)) continue;
    report["cases"][c.name] = Measure(bench, c, static_cast<int>(*runs), floor_ms);
  }
  if (!report.contains("cases")) {
    return absl::InvalidArgumentError(absl::StrCat("--cases ", args.Text("cases"), " names no case"));
  }
  return report;
}

}  // namespace

int RunCpu(std::span<const std::string> args) {
  int exit_status = 0;
  const std::optional<Arguments> arguments = ParseOrHelp(kName, kSummary, args, kOptions, &exit_status);
  if (!arguments) return exit_status;
  const absl::StatusOr<nlohmann::json> report = Report(*arguments);
  if (!report.ok()) {
    std::fprintf(stderr, "megakernel-bench cpu: %s\n", std::string(report.status().message()).c_str());
    return absl::IsInvalidArgument(report.status()) ? 2 : 1;
  }
  if (arguments->Flag("json")) {
    std::printf("%s\n", report->dump(2).c_str());
  } else {
    PrintTable(*report);
  }
  return 0;
}

}  // namespace megakernel::bench
