#include "engine/cuda/resident_executor.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "engine/cuda/mailbox_translation.h"
#include "engine/executor/command_check.h"
#include "kernels/host/watchdog.h"

namespace megakernel {
namespace {

constexpr auto kWatchPeriod = std::chrono::milliseconds(20);
// How long a stop may take before the kernel counts as hung: the steps in flight, milliseconds each.
constexpr auto kStopTime = std::chrono::seconds(2);

std::int64_t NowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

class ResidentExecutor final : public Executor {
 public:
  ResidentExecutor(const layout::Program& program, const std::string& device_name,
                   std::unique_ptr<host::ResidentDevice> device, const ResidentOptions& options)
      : options_(options),
        info_(ResidentInfo(program, device_name)),
        device_(std::move(device)),
        resident_(*device_, layout::Policy{program.max_rows, program.max_rows, program.max_rows}),
        check_(info_),
        lanes_(static_cast<std::size_t>(info_.max_lanes)) {
    watch_ = std::thread([this] { Watch(); });
  }
  ~ResidentExecutor() override;

  const ExecutorInfo& info() const override { return info_; }
  absl::Status Submit(Command command) override;
  void Drain(std::vector<Event>& events) override;
  void Wait(absl::Duration timeout) override;
  void Notify() override;
  std::uint64_t Heartbeat() const override { return host::SampleOf(*device_->mailbox().control, true, 0).heartbeat; }
  absl::Status Health() const override;

 private:
  absl::Status SubmitAdmit(const Admit& admit);
  absl::Status SubmitGrant(const GrantPages& grant);
  // Pages are copied at once, after what was submitted before: the kernel goes on meanwhile.
  absl::Status CopyOut(const megakernel::ReadPages& read);
  absl::Status CopyIn(const megakernel::WritePages& write);
  // Until the kernel has carried out every command: a step at most.
  absl::Status AwaitConsumed();
  absl::Status Send(const layout::CommandLine& line);
  // Takes what the kernel wrote; true when there is something for Drain.
  bool Collect();
  void Fail(std::string what);
  void FailLanes(std::vector<Event>& events);
  bool Quiet() const { return num_open_ == 0 && resident_.mailbox().Unconsumed() == 0; }
  void Watch();

  const ResidentOptions options_;
  const ExecutorInfo info_;
  const std::unique_ptr<host::ResidentDevice> device_;

  // The engine's thread.
  host::Resident resident_;
  CommandCheck check_;
  std::vector<LanePages> lanes_;
  int num_open_ = 0;  // lanes whose kFinished was not drained
  bool stop_sent_ = false;
  bool stop_reported_ = false;
  std::vector<Event> ready_;
  std::chrono::steady_clock::time_point last_event_ = std::chrono::steady_clock::now();

  std::atomic<bool> failed_{false};
  std::atomic<bool> notify_flag_{false};  // as notified_, to be looked at without the lock
  mutable Mutex mutex_;
  absl::Status health_ ABSL_GUARDED_BY(mutex_);
  bool notified_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread watch_;
};

ResidentExecutor::~ResidentExecutor() {
  if (resident_.running() && !failed_.load()) {
    layout::CommandLine stop;
    stop.type = layout::CommandType::kStop;
    if (!stop_sent_) (void)Send(stop);
    const auto deadline = std::chrono::steady_clock::now() + kStopTime;
    while (resident_.running() && !failed_.load() && std::chrono::steady_clock::now() < deadline) {
      Collect();
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }
  {
    MutexLock lock(&mutex_);
    closing_ = true;
  }
  watch_.join();
}

absl::Status ResidentExecutor::Send(const layout::CommandLine& line) {
  if (resident_.Send(line)) return absl::OkStatus();
  Fail(resident_.error());
  return absl::UnavailableError(resident_.error());
}

absl::Status ResidentExecutor::SubmitAdmit(const Admit& admit) {
  if (admit.sampling.stop_tokens.size() > static_cast<std::size_t>(layout::kMaxStopTokens)) {
    return absl::InvalidArgumentError(absl::StrCat("an admission has ", admit.sampling.stop_tokens.size(),
                                                   " stop tokens, at most ", layout::kMaxStopTokens, " are possible"));
  }
  MK_RETURN_IF_ERROR(CheckPageCount(admit.pages.size(), info_));
  host::Mailbox& mailbox = resident_.mailbox();
  mailbox.WriteTokens(admit.lane, admit.tokens);
  mailbox.WritePages(admit.lane, 0, admit.pages);
  mailbox.WriteStops(admit.lane, admit.sampling.stop_tokens);
  lanes_[admit.lane] = {admit.epoch, static_cast<std::int32_t>(admit.pages.size()), true};
  ++num_open_;
  return Send(AdmitLine(admit));
}

absl::Status ResidentExecutor::SubmitGrant(const GrantPages& grant) {
  LanePages& lane = lanes_[grant.lane];
  if (!lane.open || lane.epoch != grant.epoch) return absl::OkStatus();
  MK_RETURN_IF_ERROR(CheckPageCount(lane.num_pages + grant.pages.size(), info_));
  resident_.mailbox().WritePages(grant.lane, lane.num_pages, grant.pages);
  lane.num_pages += static_cast<std::int32_t>(grant.pages.size());
  return Send(GrantLine(grant, lane.num_pages));
}

absl::Status ResidentExecutor::AwaitConsumed() {
  while (resident_.mailbox().Unconsumed() > 0) {
    Collect();
    if (failed_.load()) return absl::UnavailableError(Health().message());
    std::this_thread::yield();
  }
  return absl::OkStatus();
}

absl::Status ResidentExecutor::CopyOut(const megakernel::ReadPages& read) {
  MK_RETURN_IF_ERROR(AwaitConsumed());
  Event event;
  event.type = EventType::kPages;
  event.pages = std::make_unique<PageBytes>();
  event.pages->ticket = read.ticket;
  event.pages->bytes.resize(read.pages.size() * static_cast<std::size_t>(info_.page_bytes));
  std::string error;
  if (!device_->ReadPages(read.pages, event.pages->bytes.data(), error)) {
    Fail(error);
    return absl::UnavailableError(error);
  }
  ready_.push_back(std::move(event));
  return absl::OkStatus();
}

absl::Status ResidentExecutor::CopyIn(const megakernel::WritePages& write) {
  MK_RETURN_IF_ERROR(AwaitConsumed());
  std::string error;
  if (device_->WritePages(write.pages, write.bytes.data(), error)) return absl::OkStatus();
  Fail(error);
  return absl::UnavailableError(error);
}

absl::Status ResidentExecutor::Submit(Command command) {
  if (stop_sent_) return absl::UnavailableError("the executor has stopped");
  if (failed_.load()) return absl::UnavailableError(Health().message());
  Collect();  // so that a parked kernel is known to be parked
  if (std::holds_alternative<Stop>(command)) {
    stop_sent_ = true;
    if (!resident_.running() && num_open_ == 0) return absl::OkStatus();  // Drain reports it
    layout::CommandLine line;
    line.type = layout::CommandType::kStop;
    return Send(line);
  }
  MK_RETURN_IF_ERROR(check_.Check(command));
  if (const auto* admit = std::get_if<Admit>(&command)) return SubmitAdmit(*admit);
  if (const auto* grant = std::get_if<GrantPages>(&command)) return SubmitGrant(*grant);
  if (const auto* read = std::get_if<megakernel::ReadPages>(&command)) return CopyOut(*read);
  if (const auto* write = std::get_if<megakernel::WritePages>(&command)) return CopyIn(*write);
  if (std::holds_alternative<Park>(command) && !resident_.running()) return absl::OkStatus();
  return Send(PlainLine(command));
}

bool ResidentExecutor::Collect() {
  layout::EventLine line;
  bool any = false;
  while (resident_.Receive(line)) {
    ready_.push_back(EventOf(line));
    any = true;
  }
  if (any) {
    resident_.ReturnCredit();
    last_event_ = std::chrono::steady_clock::now();
  }
  if (!resident_.error().empty() && !failed_.load()) Fail(resident_.error());
  return !ready_.empty();
}

void ResidentExecutor::Drain(std::vector<Event>& events) {
  Collect();
  for (Event& event : ready_) {
    if (event.type == EventType::kFinished && event.lane < info_.max_lanes && lanes_[event.lane].open) {
      lanes_[event.lane].open = false;
      --num_open_;
      check_.Note(event);
    }
    if (event.type == EventType::kStopped) stop_reported_ = true;
    events.push_back(std::move(event));
  }
  ready_.clear();
  if (failed_.load()) FailLanes(events);
  if (stop_sent_ && !stop_reported_ && !resident_.running() && !failed_.load() && num_open_ == 0) {
    stop_reported_ = true;
    Event stopped;
    stopped.type = EventType::kStopped;
    events.push_back(std::move(stopped));
  }
}

// Every sequence ends with exactly one kFinished, also when the kernel is lost.
void ResidentExecutor::FailLanes(std::vector<Event>& events) {
  for (std::int32_t lane = 0; lane < info_.max_lanes; ++lane) {
    if (!std::exchange(lanes_[lane].open, false)) continue;
    Event event;
    event.type = EventType::kFinished;
    event.cause = FinishCause::kFailed;
    event.lane = lane;
    event.epoch = lanes_[lane].epoch;
    events.push_back(std::move(event));
  }
  num_open_ = 0;
}

void ResidentExecutor::Wait(absl::Duration timeout) {
  const auto start = std::chrono::steady_clock::now();
  const auto end = start + absl::ToChronoNanoseconds(std::clamp(timeout, absl::ZeroDuration(), absl::Hours(1)));
  const auto notified = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return notified_; };
  while (true) {
    const bool report = stop_sent_ && !stop_reported_ && !resident_.running();
    const bool ready = Collect() || report || (failed_.load() && num_open_ > 0);
    const auto now = std::chrono::steady_clock::now();
    const bool spins = !Quiet() && !failed_.load() && now - last_event_ < absl::ToChronoNanoseconds(options_.spin);
    if (!ready && !notify_flag_.load() && now < end && spins) {
      for (int i = 0; i < 16; ++i) Pause();
      continue;
    }
    MutexLock lock(&mutex_);
    if (!ready && !notified_ && now < end) {
      absl::Duration nap = absl::FromChrono(end - now);
      if (!Quiet() && !failed_.load()) nap = std::min(nap, options_.nap);
      mutex_.AwaitWithTimeout(notified, nap);
      if (!notified_) continue;
    }
    notified_ = false;
    notify_flag_.store(false);
    return;
  }
}

void ResidentExecutor::Notify() {
  MutexLock lock(&mutex_);
  notified_ = true;
  notify_flag_.store(true);
}

absl::Status ResidentExecutor::Health() const {
  MutexLock lock(&mutex_);
  return health_;
}

void ResidentExecutor::Fail(std::string what) {
  MutexLock lock(&mutex_);
  if (health_.ok()) health_ = absl::InternalError(absl::StrCat(info_.device, ": ", what));
  failed_.store(true);
  notified_ = true;
  notify_flag_.store(true);
}

void ResidentExecutor::Watch() {
  host::Watchdog watchdog;
  const auto closing = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return closing_; };
  while (true) {
    {
      MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(closing, absl::FromChrono(kWatchPeriod))) return;
    }
    std::string lost = watchdog.Look(host::SampleOf(*device_->mailbox().control, resident_.running(), NowMs()));
    if (lost.empty()) continue;
    std::string error;
    if (device_->State(error) == host::KernelState::kFailed && !error.empty()) absl::StrAppend(&lost, "; ", error);
    Fail(std::move(lost));
    return;
  }
}

}  // namespace

std::unique_ptr<Executor> NewResidentExecutor(const layout::Program& program, const std::string& device_name,
                                              std::unique_ptr<host::ResidentDevice> device,
                                              const ResidentOptions& options) {
  return std::make_unique<ResidentExecutor>(program, device_name, std::move(device), options);
}

}  // namespace megakernel
