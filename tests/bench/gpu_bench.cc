// megakernel-bench bench: speed of the resident kernel in-process, beside the floor of the same GPU in the same run.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/cuda/cuda_executor.h"
#include "tests/bench/arguments.h"
#include "tests/bench/gpu_floor.h"
#include "tests/bench/lane_driver.h"
#include "tests/bench/position_list.h"
#include "tests/bench/preset_model.h"
#include "tests/bench/subcommand.h"
#include "tests/support/logit_dump.h"

namespace megakernel::bench {
namespace {

constexpr char kName[] = "bench";
constexpr char kSummary[] =
    "Speed of the resident GPU kernel, sampling and mailbox included: time per token from the first token to the "
    "last,\n"
    "as the host sees them, for sequences that go on after prompts of chosen lengths. Beside it the bytes that a step\n"
    "must read, and the read bandwidth of this GPU, measured in the same run.";
constexpr Option kOptions[] = {
    {"model", "PATH", "", "a model directory or file"},
    {"config", "FILE|PRESET", "", "instead of --model: a random checkpoint of this config, made for the run"},
    {"seed", "N", "1", "of the random checkpoint and of the prompts"},
    {"pos", "LIST", "64", "lengths of the prompts, such as 64,512,4032"},
    {"batch", "N", "1", "sequences at the same time, 1 to 8"},
    {"tokens", "N", "64", "tokens of a run"},
    {"runs", "N", "30", "runs of each case"},
    {"temperature", "X", "0", "0: greedy"},
    {"blocks", "N", "0", "of the grid; 0: as many as fit"},
    {"context", "N", "0", "max_context; 0: what the positions need"},
    {"floor-only", nullptr, nullptr, "only the floor table"},
    {"json", nullptr, nullptr, "print the result as JSON"},
};

constexpr std::size_t kReadBytes = std::size_t{1192} << 20;
constexpr int kFloorRuns = 30;

nlohmann::ordered_json Spread(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {
      {"median", values[values.size() / 2]}, {"min", values.front()}, {"max", values.back()}, {"runs", values.size()}};
}

struct Settings {
  std::vector<std::int32_t> positions;
  int batch = 1, tokens = 64, runs = 30;
  std::uint64_t seed = 1;
  SamplingParams sampling;
};

absl::StatusOr<Settings> SettingsOf(const Arguments& args) {
  Settings s;
  MK_ASSIGN_OR_RETURN(s.positions, ParsePositions(args.Text("pos"), 1 << 20));
  MK_ASSIGN_OR_RETURN(s.batch, args.Int("batch", 1, layout::kGpuMaxRows));
  MK_ASSIGN_OR_RETURN(s.tokens, args.Int("tokens", 2, 1 << 20));
  MK_ASSIGN_OR_RETURN(s.runs, args.Int("runs", 1, 10000));
  MK_ASSIGN_OR_RETURN(const std::int64_t seed, args.Int("seed", 0, INT64_MAX));
  MK_ASSIGN_OR_RETURN(const double temperature, args.Number("temperature"));
  if (s.positions.front() < 1) return absl::InvalidArgumentError("--pos: a prompt has at least one token");
  if (!(temperature >= 0.0 && temperature <= 100.0)) {
    return absl::InvalidArgumentError("--temperature must be in [0, 100]");
  }
  s.seed = static_cast<std::uint64_t>(seed);
  s.sampling.temperature = static_cast<float>(temperature);
  return s;
}

// Microseconds of a step and tokens per second while all lanes run: from the moment when each has its first token to
// the end of the first one that finishes.
struct Rate {
  double us_per_step = 0.0, tok_per_s = 0.0;
};

Rate RateOf(const LaneTimes& times) {
  double begin = 0.0, end = 1e300;
  for (const auto& lane : times.seconds) {
    begin = std::max(begin, lane.front());
    end = std::min(end, lane.back());
  }
  std::int64_t tokens = 0;
  for (const auto& lane : times.seconds) {
    tokens += std::count_if(lane.begin(), lane.end(), [&](double t) { return t > begin && t <= end; });
  }
  Rate rate;
  rate.tok_per_s = static_cast<double>(tokens) / (end - begin);
  rate.us_per_step = 1e6 * static_cast<double>(times.seconds.size()) / rate.tok_per_s;
  return rate;
}

class GpuBench {
 public:
  GpuBench(const Model& model, Executor& executor, const Settings& settings, double gb_per_s)
      : model_(model), executor_(executor), driver_(executor), settings_(settings), gb_per_s_(gb_per_s) {}

  absl::StatusOr<nlohmann::ordered_json> RoundTrips() {
    std::vector<double> us;
    for (int i = 0; i < 200; ++i) {
      MK_ASSIGN_OR_RETURN(const double seconds, driver_.RoundTrip(0));
      if (i >= 20) us.push_back(1e6 * seconds);
    }
    return Spread(us);
  }

  absl::StatusOr<nlohmann::ordered_json> Case(std::int32_t position) {
    std::vector<std::vector<TokenId>> prompts;
    std::vector<std::vector<PageId>> pages;
    for (int lane = 0; lane < settings_.batch; ++lane) {
      prompts.push_back(test::RandomTokens(settings_.seed + lane, position, executor_.info().vocab));
      MK_ASSIGN_OR_RETURN(std::vector<PageId> mine,
                          driver_.PagesOf(lane, settings_.batch, position + settings_.tokens));
      MK_RETURN_IF_ERROR(driver_.Prefill(prompts.back(), mine));
      pages.push_back(std::move(mine));
    }
    std::vector<double> us, rates;
    std::vector<std::vector<TokenId>> first;
    int differ = 0;
    for (int run = -1; run < settings_.runs; ++run) {  // one to warm up
      MK_ASSIGN_OR_RETURN(const LaneTimes times,
                          driver_.Generate(prompts, pages, settings_.tokens, settings_.sampling));
      if (first.empty()) first = times.tokens;
      differ += first != times.tokens;
      const Rate rate = RateOf(times);
      if (run < 0) continue;
      us.push_back(rate.us_per_step);
      rates.push_back(rate.tok_per_s);
    }
    nlohmann::ordered_json result = {{"pos", position}, {"batch", settings_.batch}, {"tokens", settings_.tokens}};
    result["us_per_token"] = Spread(us);  // of one sequence: a step gives each a token
    result["tok_per_s"] = Spread(rates);
    const std::int64_t bytes = StepBytes(position + settings_.tokens / 2);
    result["bytes_per_step"] = bytes;
    result["percent_of_read_bandwidth"] =
        100.0 * static_cast<double>(bytes) / (result["us_per_token"]["median"].get<double>() * 1e3) / gb_per_s_;
    result["runs_that_differ"] = differ;
    return result;
  }

 private:
  // Weights that every step streams, and the keys and values of `batch` sequences of `context` positions.
  std::int64_t StepBytes(std::int32_t context) const {
    const ExecutorInfo& info = executor_.info();
    const ModelConfig& config = model_.config();
    std::int64_t weights = info.weight_bytes;
    if (!config.tied_embedding) weights -= std::int64_t{2} * config.vocab * config.hidden;
    return weights + settings_.batch * (info.page_bytes / info.page_tokens) * context;
  }

  const Model& model_;
  Executor& executor_;
  LaneDriver driver_;
  const Settings& settings_;
  const double gb_per_s_;
};

absl::StatusOr<nlohmann::ordered_json> Floor() {
  std::string error;
  const std::vector<double> read = GpuReadBandwidth(kReadBytes, kFloorRuns, error);
  const std::vector<double> hand_over = GpuHandOver(kFloorRuns, error);
  if (read.empty() || hand_over.empty()) return absl::InternalError(error);
  return nlohmann::ordered_json{{"read_gb_per_s", Spread(read)}, {"hand_over_ns", Spread(hand_over)}};
}

void Print(const nlohmann::ordered_json& result) {
  const auto line = [](const char* name, const nlohmann::ordered_json& s, const char* unit) {
    std::printf("%-32s %10.2f %s  (%.2f to %.2f, %d runs)\n", name, s["median"].get<double>(), unit,
                s["min"].get<double>(), s["max"].get<double>(), s["runs"].get<int>());
  };
  std::printf("%s\n", result["device"].get<std::string>().c_str());
  line("read bandwidth", result["floor"]["read_gb_per_s"], "GB/s");
  line("hand-over, one way", result["floor"]["hand_over_ns"], "ns");
  if (result.contains("mailbox_round_trip_us")) line("mailbox round trip", result["mailbox_round_trip_us"], "us");
  if (!result.contains("cases")) return;
  for (const auto& c : result["cases"]) {
    line(absl::StrCat("context ", c["pos"].get<int>(), ", batch ", c["batch"].get<int>()).c_str(), c["us_per_token"],
         "us/token");
    std::printf("%-32s %10.1f tok/s, %lld bytes a step, %.1f %% of the read bandwidth\n", "",
                c["tok_per_s"]["median"].get<double>(), static_cast<long long>(c["bytes_per_step"].get<std::int64_t>()),
                c["percent_of_read_bandwidth"].get<double>());
  }
}

absl::StatusOr<nlohmann::ordered_json> Measure(const Arguments& args) {
  MK_ASSIGN_OR_RETURN(const Settings settings, SettingsOf(args));
  MK_ASSIGN_OR_RETURN(const DeviceFacts facts, FindCudaDevice(0));
  nlohmann::ordered_json result = {{"device", facts.name}, {"sms", facts.num_sms}};
  MK_ASSIGN_OR_RETURN(result["floor"], Floor());
  if (args.Flag("floor-only")) return result;
  MK_ASSIGN_OR_RETURN(const PresetModel preset,
                      PresetModel::Open(args.Text("model"), args.Text("config"), settings.seed));
  CudaOptions options;
  MK_ASSIGN_OR_RETURN(options.persistent_blocks, args.Int("blocks", 0, 1024));
  MK_ASSIGN_OR_RETURN(options.max_context, args.Int("context", 0, 1 << 20));
  if (options.max_context == 0) options.max_context = settings.positions.back() + settings.tokens + 64;
  options.num_pages = settings.batch * layout::PagesFor(options.max_context, options.page_tokens);
  options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  options.park_after_us = 0;
  MK_ASSIGN_OR_RETURN(const std::unique_ptr<Executor> executor, NewCudaExecutor(preset.model(), options));
  result["model"] = preset.model().config().name.empty() ? args.Text("config") : preset.model().config().name;
  result["executor"] = executor->info().device;
  result["weight_bytes"] = executor->info().weight_bytes;
  result["max_context"] = executor->info().max_context;
  GpuBench bench(preset.model(), *executor, settings, result["floor"]["read_gb_per_s"]["median"].get<double>());
  MK_ASSIGN_OR_RETURN(result["mailbox_round_trip_us"], bench.RoundTrips());
  result["cases"] = nlohmann::ordered_json::array();
  for (const std::int32_t position : settings.positions) {
    MK_ASSIGN_OR_RETURN(nlohmann::ordered_json one, bench.Case(position));
    result["cases"].push_back(std::move(one));
  }
  return result;
}

}  // namespace

int RunBench(std::span<const std::string> args) {
  int exit_status = 0;
  const auto parsed = ParseOrHelp(kName, kSummary, args, kOptions, &exit_status);
  if (!parsed) return exit_status;
  const auto result = Measure(*parsed);
  if (!result.ok()) {
    std::fprintf(stderr, "megakernel-bench %s: %s\n", kName, std::string(result.status().message()).c_str());
    return 1;
  }
  if (parsed->Flag("json")) {
    std::printf("%s\n", result->dump().c_str());
  } else {
    Print(*result);
  }
  return 0;
}

}  // namespace megakernel::bench
