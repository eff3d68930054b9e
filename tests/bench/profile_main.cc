// megakernel-profile, which `megakernel-bench profile` starts: the resident kernel built with clock marks
// (MEGAKERNEL_TRACE), and where the time of a step goes. The marks cost some time themselves.
#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/cuda/cuda_device.h"
#include "engine/cuda/cuda_executor.h"
#include "engine/cuda/resident_executor.h"
#include "tests/bench/arguments.h"
#include "tests/bench/lane_driver.h"
#include "tests/bench/preset_model.h"
#include "tests/support/logit_dump.h"

namespace megakernel::bench {
namespace {

constexpr char kName[] = "profile";
constexpr char kSummary[] =
    "Where a step of the resident kernel spends its time: clock readings of one thread of every block at the marks of\n"
    "device/trace.cuh, mean over blocks and steps, beside the weights that a phase reads.";
constexpr Option kOptions[] = {
    {"model", "PATH", "", "a model directory or file"},
    {"config", "FILE|PRESET", "", "instead of --model: a random checkpoint of this config, made for the run"},
    {"seed", "N", "1", "of the random checkpoint and of the prompt"},
    {"pos", "N", "64", "length of the prompt, which is read before"},
    {"batch", "N", "1", "sequences at the same time, 1 to 8"},
    {"json", nullptr, nullptr, "print the result as JSON"},
};

constexpr int kSteps = 8;      // run; as many are seen as a block's trace holds
constexpr int kFirstStep = 2;  // the ones before fill caches
constexpr int kStepMark = 40;  // the first mark of a step; marks below are 8 to a phase
constexpr const char* kPhases[] = {"QKV", "O", "gate/up", "down", "LM head", "step"};
constexpr const char* kParts[] = {"begin", "before", "preload", "prologue", "sync", "multiply", "sync", "epilogue"};

struct MarkTime {
  double cycles = 0.0;  // since the mark before, over all blocks and steps
  double worst = 0.0;
};

struct Profile {
  std::map<int, MarkTime> marks;
  double cycles = 0.0;  // of all steps of all blocks
  std::int64_t block_steps = 0;
};

// Adds one block's trace: the number of marks, then each as clock << 8 | mark.
void AddBlock(const std::vector<std::uint64_t>& words, Profile& profile) {
  const std::size_t count = std::min<std::size_t>(words[0], words.size() - 1);
  std::size_t last_step = 0;
  for (std::size_t i = 1; i <= count; ++i) {
    if ((words[i] & 255) == kStepMark) last_step = i;
  }
  int steps = 0;
  for (std::size_t i = 2; i <= last_step; ++i) {
    const int before = static_cast<int>(words[i - 1] & 255), mark = static_cast<int>(words[i] & 255);
    if (before == kStepMark) ++steps;
    if (steps <= kFirstStep) continue;
    if (before == kStepMark) ++profile.block_steps;
    const auto cycles = static_cast<double>((words[i] >> 8) - (words[i - 1] >> 8));
    MarkTime& time = profile.marks[mark];
    time.cycles += cycles;
    time.worst = std::max(time.worst, cycles);
    profile.cycles += cycles;
  }
}

struct Run {
  layout::Program program;
  Profile profile;
  double us_per_step = 0.0;
};

absl::StatusOr<Run> Trace(const Model& model, const Arguments& args) {
  MK_ASSIGN_OR_RETURN(const std::int32_t position, args.Int("pos", 1, 1 << 20));
  MK_ASSIGN_OR_RETURN(const int batch, args.Int("batch", 1, layout::kGpuMaxRows));
  MK_ASSIGN_OR_RETURN(const std::int64_t seed, args.Int("seed", 0, INT64_MAX));
  CudaOptions options;
  options.max_context = position + kSteps + 64;
  options.num_pages = batch * layout::PagesFor(options.max_context, options.page_tokens);
  options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  options.park_after_us = 0;
  MK_ASSIGN_OR_RETURN(LoadedDevice loaded, LoadCudaDevice(model, options));
  Run run;
  run.program = loaded.program;
  auto* device = static_cast<CudaDevice*>(loaded.device.get());
  const auto executor = NewResidentExecutor(loaded.program, loaded.name, std::move(loaded.device), ResidentOptions());
  LaneDriver driver(*executor);
  std::vector<std::vector<TokenId>> prompts;
  std::vector<std::vector<PageId>> pages;
  for (int lane = 0; lane < batch; ++lane) {
    prompts.push_back(test::RandomTokens(static_cast<std::uint64_t>(seed) + lane, position, executor->info().vocab));
    MK_ASSIGN_OR_RETURN(std::vector<PageId> mine, driver.PagesOf(lane, batch, position + kSteps));
    MK_RETURN_IF_ERROR(driver.Prefill(prompts.back(), mine));
    pages.push_back(std::move(mine));
  }
  const auto park = [&]() -> absl::Status {  // a launch begins with an empty trace
    MK_RETURN_IF_ERROR(executor->Submit(Park{}));
    std::vector<Event> events;
    std::string error;
    while (device->State(error) == host::KernelState::kRunning) executor->Drain(events);
    executor->Drain(events);
    return executor->Health();
  };
  MK_RETURN_IF_ERROR(park());
  SamplingParams greedy;
  greedy.temperature = 0.0f;
  MK_ASSIGN_OR_RETURN(const LaneTimes times, driver.Generate(prompts, pages, kSteps, greedy));
  MK_RETURN_IF_ERROR(park());
  const std::vector<double>& seconds = times.seconds[0];
  run.us_per_step = 1e6 * (seconds.back() - seconds[1]) / static_cast<double>(seconds.size() - 2);
  std::vector<std::uint64_t> words(layout::kTraceWords);
  for (std::int32_t block = 0; block < run.program.num_blocks; ++block) {
    MK_RETURN_IF_ERROR(device->ReadWorkspace(
        run.program.workspace.trace + std::int64_t{8} * layout::kTraceWords * block, words.data(), 8 * words.size()));
    AddBlock(words, run.profile);
  }
  if (run.profile.block_steps == 0) return absl::InternalError("the trace holds no whole step");
  return run;
}

nlohmann::ordered_json Report(const Run& run) {
  const double blocks = static_cast<double>(run.profile.block_steps);
  const double us_per_cycle = run.us_per_step / (run.profile.cycles / blocks);
  nlohmann::ordered_json result = {{"us_per_step", run.us_per_step}, {"clock_mhz", 1.0 / us_per_cycle}};
  result["phases"] = nlohmann::ordered_json::array();
  for (int phase = 0; phase <= layout::kNumPhases; ++phase) {
    nlohmann::ordered_json parts = nlohmann::ordered_json::object();
    double us = 0.0;
    for (const auto& [mark, time] : run.profile.marks) {
      if (mark / 8 != phase) continue;
      const double mean = time.cycles / blocks * us_per_cycle;
      us += mean;
      const std::string name =
          phase < layout::kNumPhases ? absl::StrCat(mark % 8, " ", kParts[mark % 8]) : absl::StrCat("mark ", mark);
      parts[name] = {{"us", mean}, {"worst_us_once", time.worst * us_per_cycle}};
    }
    if (parts.empty()) continue;
    const bool in_layers = phase < layout::kPhaseHead;
    const std::int64_t bytes =
        phase == layout::kNumPhases ? 0 : run.program.matrix[phase].Bytes() * (in_layers ? run.program.num_layers : 1);
    result["phases"].push_back({{"phase", kPhases[phase]},
                                {"us", us},
                                {"weight_bytes", bytes},
                                {"gb_per_s", bytes / us * 1e-3},
                                {"parts", parts}});
  }
  return result;
}

void Print(const nlohmann::ordered_json& result) {
  std::printf("%.1f us a step at %.0f MHz, marks included\n", result["us_per_step"].get<double>(),
              result["clock_mhz"].get<double>());
  for (const auto& phase : result["phases"]) {
    std::printf("%-10s %8.1f us  %12lld bytes  %7.1f GB/s\n", phase["phase"].get<std::string>().c_str(),
                phase["us"].get<double>(), static_cast<long long>(phase["weight_bytes"].get<std::int64_t>()),
                phase["gb_per_s"].get<double>());
    for (const auto& [name, part] : phase["parts"].items()) {
      std::printf("    %-14s %8.2f us a step, once %8.2f at worst\n", name.c_str(), part["us"].get<double>(),
                  part["worst_us_once"].get<double>());
    }
  }
}

int Main(std::span<const std::string> args) {
  int exit_status = 0;
  const auto parsed = ParseOrHelp(kName, kSummary, args, kOptions, &exit_status);
  if (!parsed) return exit_status;
  const auto seed = parsed->Int("seed", 0, INT64_MAX);
  absl::Status failed = seed.status();
  if (seed.ok()) {
    const auto preset =
        PresetModel::Open(parsed->Text("model"), parsed->Text("config"), static_cast<std::uint64_t>(*seed));
    failed = preset.status();
    if (preset.ok()) {
      const auto run = Trace(preset->model(), *parsed);
      failed = run.status();
      if (run.ok()) {
        const nlohmann::ordered_json result = Report(*run);
        parsed->Flag("json") ? void(std::printf("%s\n", result.dump().c_str())) : Print(result);
        return 0;
      }
    }
  }
  std::fprintf(stderr, "megakernel-bench %s: %s\n", kName, std::string(failed.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace megakernel::bench

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  return megakernel::bench::Main(args);
}
