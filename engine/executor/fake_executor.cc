#include "engine/executor/fake_executor.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/check.h"

namespace megakernel {
namespace {

// Progress inside a long step.
constexpr absl::Duration kBeat = absl::Milliseconds(50);

ExecutorInfo MakeInfo(const FakeOptions& options) {
  ExecutorInfo info;
  info.device = absl::StrCat("fake: ", absl::FormatDuration(options.step_time), " a step");
  info.max_lanes = options.max_lanes;
  info.max_rows = options.max_rows;
  info.max_context = options.max_context;
  info.vocab = options.vocab;
  info.page_tokens = options.page_tokens;
  info.num_pages = options.num_pages;
  info.page_bytes = std::int64_t{options.page_tokens} * static_cast<std::int64_t>(sizeof(std::uint64_t));
  info.kv_type = "hash";
  info.page_format = absl::StrCat("fake ", options.page_tokens);
  info.features = options.features;
  info.max_logprobs = options.max_logprobs;
  return info;
}

}  // namespace

std::vector<TokenId> FakeGenerate(const FakeOptions& options, std::vector<TokenId> prompt,
                                  const SamplingParams& sampling, int max_tokens) {
  std::uint64_t hash = 0;
  for (const TokenId token : prompt) hash = FakeHash(hash, token);
  std::vector<TokenId> output;
  while (static_cast<int>(output.size()) < max_tokens) {
    const TokenId token = FakeChoose(options, sampling, hash, static_cast<std::int32_t>(output.size()));
    output.push_back(token);
    hash = FakeHash(hash, token);
    const auto& stops = sampling.stop_tokens;
    if (std::find(stops.begin(), stops.end(), token) != stops.end()) break;
  }
  return output;
}

FakeExecutor::FakeExecutor(FakeOptions options)
    : options_(std::move(options)), info_(MakeInfo(options_)), machine_(options_) {
  if (!options_.manual) thread_ = std::thread([this] { Run(); });
}

FakeExecutor::~FakeExecutor() {
  {
    MutexLock lock(&mutex_);
    closing_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

const ExecutorInfo& FakeExecutor::info() const {
  return info_;
}

absl::Status FakeExecutor::Submit(Command command) {
  MutexLock lock(&mutex_);
  if (!machine_.health().ok() || machine_.stopped()) {
    return absl::UnavailableError(machine_.stopped() ? "the executor has stopped" : "the executor has failed");
  }
  const bool stop = std::holds_alternative<megakernel::Stop>(command);
  commands_.push_back(std::move(command));
  if (stop && options_.manual) ApplyCommands();  // nobody may be left to call Step
  return absl::OkStatus();
}

bool FakeExecutor::CanRun() const {
  if (stalled_ || !machine_.health().ok() || machine_.stopped()) return false;
  return !commands_.empty() || machine_.HasWork();
}

// A step border: what was submitted takes effect.
void FakeExecutor::ApplyCommands() {
  for (Command& command : commands_) machine_.Apply(command, events_);
  commands_.clear();
}

void FakeExecutor::StepMachine() {
  machine_.Step(events_);
  heartbeat_.fetch_add(1, std::memory_order_relaxed);
  if (options_.stall_after_steps > 0 && machine_.num_steps() >= options_.stall_after_steps) stalled_ = true;
  if (!machine_.health().ok()) notified_ = true;  // whoever waits should hear of it
}

bool FakeExecutor::RunStep() {
  if (!CanRun()) return false;
  ApplyCommands();
  StepMachine();
  return true;
}

void FakeExecutor::Run() {
  MutexLock lock(&mutex_);
  while (true) {
    const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return closing_ || CanRun(); };
    mutex_.Await(ready);
    if (closing_) return;
    ApplyCommands();
    if (options_.step_time > absl::ZeroDuration() && machine_.HasWork()) {
      // The step's time passes before its results show, as on a device: what is submitted meanwhile waits for the next
      // border.
      absl::Duration left = options_.step_time;
      while (left > absl::ZeroDuration() && !stalled_ && !closing_) {
        const absl::Duration part = std::min(left, kBeat);
        mutex_.Unlock();
        absl::SleepFor(part);
        mutex_.Lock();
        left -= part;
        if (left > absl::ZeroDuration()) heartbeat_.fetch_add(1, std::memory_order_relaxed);
      }
      if (stalled_ || closing_) continue;
    }
    StepMachine();
  }
}

bool FakeExecutor::Step() {
  MK_CHECK(options_.manual);
  MutexLock lock(&mutex_);
  return RunStep();
}

void FakeExecutor::Drain(std::vector<Event>& events) {
  hung_.wait(true);
  MutexLock lock(&mutex_);
  for (Event& event : events_) events.push_back(std::move(event));
  events_.clear();
}

void FakeExecutor::Wait(absl::Duration timeout) {
  MutexLock lock(&mutex_);
  const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return notified_ || !events_.empty(); };
  mutex_.AwaitWithTimeout(ready, timeout);
  notified_ = false;
}

void FakeExecutor::Notify() {
  MutexLock lock(&mutex_);
  notified_ = true;
}

std::uint64_t FakeExecutor::Heartbeat() const {
  if (options_.manual) {  // who calls Step takes their time
    MutexLock lock(&mutex_);
    if (!stalled_) return manual_beats_.fetch_add(1, std::memory_order_relaxed) + 1;
  }
  return heartbeat_.load(std::memory_order_relaxed);
}

absl::Status FakeExecutor::Health() const {
  MutexLock lock(&mutex_);
  return machine_.health();
}

void FakeExecutor::Stall(bool stalled) {
  MutexLock lock(&mutex_);
  stalled_ = stalled;
}

void FakeExecutor::Hang(bool hung) {
  Stall(hung);
  hung_.store(hung);
  hung_.notify_all();
}

void FakeExecutor::Fail(absl::Status status) {
  MutexLock lock(&mutex_);
  machine_.Break(std::move(status));
  notified_ = true;
}

void FakeExecutor::Lie(FakeLie lie) {
  MutexLock lock(&mutex_);
  machine_.Lie(lie);
}

std::uint64_t FakeExecutor::num_steps() const {
  MutexLock lock(&mutex_);
  return machine_.num_steps();
}

std::uint64_t FakeExecutor::num_rows() const {
  MutexLock lock(&mutex_);
  return machine_.num_rows();
}

std::uint64_t FakeExecutor::num_checks() const {
  MutexLock lock(&mutex_);
  return machine_.num_checks();
}

}  // namespace megakernel
