#include "engine/core/engine_loop.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"

namespace megakernel {
namespace {

// Session operations that may wait for the engine thread.
constexpr std::size_t kMaxOperations = 4096;
// How long a cancelled step may take, and then the executor's answer to Stop, before it counts as hung.
constexpr absl::Duration kStopPatience = absl::Seconds(5);

}  // namespace

absl::Status EngineLoop::DrainingError() {
  return MakeError(absl::StatusCode::kUnavailable, ErrorReason::kDraining, "the server is shutting down");
}

EngineLoop::EngineLoop(const EngineOptions& options, std::int32_t max_context, const Model* model,
                       std::unique_ptr<Executor> executor, const Clock* clock)
    : options_(options),
      max_context_(max_context),
      model_(model),
      executor_(std::move(executor)),
      clock_(clock),
      inbox_(std::make_shared<Inbox>(executor_.get(), kMaxOperations + options.max_queue)),
      core_(options, max_context, model, executor_.get(), clock, &metrics_,
            {.on_left_queue = [this] { waiting_.fetch_sub(1, std::memory_order_relaxed); },
             .on_ending = [this] { PublishStats(); },
             .on_ended =
                 [this] {
                   MutexLock lock(&mutex_);
                   --active_;
                 },
             .on_failure =
                 [this](EngineFailure failure) {
                   watchdog_.Answered();
                   ReportFailure(std::move(failure));
                 }}),
      watchdog_(
          executor_.get(), clock, options.stall_timeout, [this](const absl::Status& stall) { OnStall(stall); },
          [this](const absl::Status& cause) { OnHang(cause); }),
      thread_([this] { Run(); }) {}

EngineLoop::~EngineLoop() {
  Shutdown(absl::ZeroDuration());
}

absl::StatusOr<std::shared_ptr<TokenStream>> EngineLoop::Generate(GenerateRequest request) {
  auto stream = Accept(std::move(request));
  if (!stream.ok()) metrics_.errors.Add(ReasonOf(stream.status()));
  return stream;
}

absl::StatusOr<std::shared_ptr<TokenStream>> EngineLoop::Accept(GenerateRequest request) {
  if (draining()) return DrainingError();
  MK_RETURN_IF_ERROR(Health());
  MK_RETURN_IF_ERROR(ValidateRequest(request, info(), max_context_));
  if (!model_->has_tokenizer() && !request.stop_strings.empty()) {
    return FieldError("stopping.stop", "the model has no tokenizer: nothing it generates can match a text");
  }
  if (const int waiting = waiting_.fetch_add(1, std::memory_order_relaxed); waiting >= options_.max_queue) {
    waiting_.fetch_sub(1, std::memory_order_relaxed);
    return MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kQueueFull,
                     std::string(absl::StrCat(waiting, " requests are waiting, the most that may")));
  }
  std::shared_ptr<TenantUsage> usage;
  if (options_.quotas != nullptr) {
    auto admitted =
        options_.quotas->Admit(request.tenant, static_cast<std::int64_t>(request.tokens.size()), clock_->Now());
    if (!admitted.ok()) {
      waiting_.fetch_sub(1, std::memory_order_relaxed);
      return admitted.status();
    }
    usage = *std::move(admitted);
  }
  auto generation = std::make_unique<Generation>();
  generation->usage = usage;
  generation->id = next_id_.fetch_add(1, std::memory_order_relaxed);
  generation->accepted = clock_->Now();
  generation->request = std::move(request);
  const auto cancel = [inbox = inbox_, id = generation->id] { inbox->PostCancel(id); };
  auto stream = std::make_shared<TokenStream>(generation->request.n, options_.stream_buffer, cancel);
  generation->stream = stream;
  {
    MutexLock lock(&mutex_);
    ++active_;
  }
  if (inbox_->Post(std::move(generation))) return stream;
  // Closed: room there is, the waiting generations are counted.
  waiting_.fetch_sub(1, std::memory_order_relaxed);
  if (usage != nullptr) usage->LeaveQueue();
  MutexLock lock(&mutex_);
  --active_;
  return DrainingError();
}

absl::Status EngineLoop::Post(absl::AnyInvocable<void(EngineCore&)> task) {
  if (stop_.load(std::memory_order_relaxed)) return DrainingError();
  if (inbox_->Post(std::move(task))) return absl::OkStatus();
  return MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kQueueFull,
                   std::string(absl::StrCat(kMaxOperations, " operations are waiting, the most that may")));
}

void EngineLoop::Run() {
  while (!stop_.load(std::memory_order_relaxed)) {
    core_.BeginRound();
    TakeStall();
    TakeMessages();
    absl::Time next = core_.Poll();
    if (core_.idle()) {
      Park();
      if (!parked_) next = std::min(next, idle_since_ + options_.park_after);
    } else {
      idle_since_ = absl::InfiniteFuture();
      parked_ = false;
    }
    PublishStats();
    watchdog_.Round(core_.failure().ok() && core_.executor_busy());
    executor_->Wait(std::max(absl::ZeroDuration(), next - clock_->Now()));
  }
  Stop();
}

void EngineLoop::TakeMessages() {
  inbox_->TakeAll(messages_, cancels_);
  for (Message& message : messages_) {
    if (auto* const generation = std::get_if<std::unique_ptr<Generation>>(&message)) {
      core_.Start(std::move(*generation));
    } else {
      std::get<absl::AnyInvocable<void(EngineCore&)>>(message)(core_);
    }
  }
  messages_.clear();
  for (const std::uint64_t id : cancels_) core_.Cancel(id);
}

void EngineLoop::Park() {
  const absl::Time now = clock_->Now();
  idle_since_ = std::min(idle_since_, now);
  if (parked_ || now < idle_since_ + options_.park_after || !core_.failure().ok()) return;
  parked_ = true;
  if (const absl::Status status = executor_->Submit(megakernel::Park{}); !status.ok()) core_.Fail(status);
}

// Leaves nothing behind: every message is answered, every stream has ended, the executor runs nothing.
void EngineLoop::Stop() {
  inbox_->Close();
  core_.BeginRound();
  TakeMessages();
  core_.EndAll({FinishReason::kFailed, DrainingError(), ""});
  if (core_.failure().ok() && executor_->Submit(megakernel::Stop{}).ok()) {
    const absl::Time patience = absl::Now() + kStopPatience;
    while (!core_.stopped() && core_.failure().ok() && absl::Now() < patience) {
      core_.BeginRound();
      TakeStall();
      core_.Poll();
      watchdog_.Round(core_.executor_busy());
      if (!core_.stopped()) executor_->Wait(absl::Milliseconds(10));
    }
  }
  if (!core_.idle()) core_.Fail(absl::InternalError("the executor did not stop"));
  PublishStats();
}

void EngineLoop::PublishStats() {
  EngineStats stats = core_.Stats();
  MutexLock lock(&mutex_);
  stats_ = stats;
  if (health_.ok()) health_ = core_.failure();
}

void EngineLoop::OnStall(const absl::Status& stall) {
  MutexLock lock(&mutex_);
  stall_ = stall;
}

void EngineLoop::TakeStall() {
  absl::Status stall;
  {
    MutexLock lock(&mutex_);
    stall = stall_;
  }
  if (!stall.ok()) core_.Fail(stall);
}

// The engine thread's state is its own: what it published last must do.
void EngineLoop::OnHang(const absl::Status& cause) {
  const EngineStats stats = Stats();
  ReportFailure({.status = ExecutorFailure(cause),
                 .state = {absl::StrCat("engine thread=hangs running=", stats.sequences_running,
                                        " waiting=", stats.requests_waiting, " sessions=", stats.sessions,
                                        " pages_used=", stats.pages_used, " heartbeat=", executor_->Heartbeat())}});
}

void EngineLoop::ReportFailure(EngineFailure failure) {
  {
    MutexLock lock(&mutex_);
    if (health_.ok()) health_ = failure.status;
    if (std::exchange(reported_, true)) return;
  }
  if (options_.on_failure) options_.on_failure(failure);
}

bool EngineLoop::WaitIdle(absl::Duration timeout) {
  MutexLock lock(&mutex_);
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return active_ == 0; };
  return mutex_.AwaitWithTimeout(idle, timeout);
}

void EngineLoop::Shutdown(absl::Duration grace) {
  Drain();
  MutexLock lock(&join_mutex_);
  if (!thread_.joinable()) return;
  if (!WaitIdle(grace)) {
    const auto end_all = [](EngineCore& core) { core.EndAll({FinishReason::kFailed, DrainingError(), ""}); };
    if (Post(end_all).ok()) WaitIdle(kStopPatience);
  }
  stop_.store(true, std::memory_order_relaxed);
  inbox_->Wake();
  thread_.join();
  watchdog_.Stop();
}

absl::Status EngineLoop::Health() const {
  MutexLock lock(&mutex_);
  return health_;
}

EngineStats EngineLoop::Stats() const {
  MutexLock lock(&mutex_);
  EngineStats stats = stats_;
  stats.requests_waiting = waiting_.load(std::memory_order_relaxed);
  stats.heartbeat_age = watchdog_.heartbeat_age();
  return stats;
}

}  // namespace megakernel
