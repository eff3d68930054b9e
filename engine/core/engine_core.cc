#include "engine/core/engine_core.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/core/event_check.h"

namespace megakernel {
namespace {

// A failed executor is noticed at the latest after this long, whether or not it says anything; sooner while it works.
constexpr absl::Duration kLongestSleep = absl::Seconds(1);
constexpr absl::Duration kLongestBusySleep = absl::Milliseconds(100);

}  // namespace

EngineCore::EngineCore(const EngineOptions& options, std::int32_t max_context, const Model* model, Executor* executor,
                       const Clock* clock, EngineMetrics* metrics, Hooks hooks)
    : options_(options),
      max_context_(max_context),
      model_(model),
      executor_(executor),
      clock_(clock),
      metrics_(metrics),
      hooks_(std::move(hooks)),
      cache_(executor->info().num_pages, executor->info().page_tokens, options.prefix_sharing,
             options.share_across_tenants),
      sessions_(options.max_sessions),
      dispatcher_(executor, &cache_, options.prefix_sharing, this),
      now_(clock->Now()) {}

EngineCore::~EngineCore() = default;

absl::Time EngineCore::Poll() {
  events_.clear();
  executor_->Drain(events_);
  if (!events_.empty()) now_ = clock_->Now();
  for (Event& event : events_) OnEvent(event);
  if (!failure_.ok()) return absl::InfiniteFuture();

  if (const absl::Status health = executor_->Health(); !health.ok()) Fail(health);
  while (!deadlines_.empty() && deadlines_.begin()->first <= now_) {
    const std::uint64_t id = deadlines_.begin()->second;
    deadlines_.erase(deadlines_.begin());
    const auto it = generations_.find(id);
    if (it == generations_.end() || it->second->unfinished == 0) continue;
    EndGeneration(*it->second, {FinishReason::kCancelled,
                                MakeError(absl::StatusCode::kDeadlineExceeded, ErrorReason::kDeadlineExceeded,
                                          "the deadline has passed"),
                                ""});
  }
  ExpireSessions();
  dispatcher_.Schedule();
  if (!dispatcher_.status().ok()) Fail(dispatcher_.status());
  SweepEnded();

  absl::Time next = sessions_.NextExpiry();
  if (!deadlines_.empty()) next = std::min(next, deadlines_.begin()->first);
  return std::min(next, now_ + (executor_busy() ? kLongestBusySleep : kLongestSleep));
}

void EngineCore::SweepEnded() {
  for (const std::uint64_t id : ended_) generations_.erase(id);
  ended_.clear();
}

void EngineCore::Cancel(std::uint64_t generation_id) {
  const auto it = generations_.find(generation_id);
  if (it == generations_.end() || it->second->unfinished == 0) return;
  EndGeneration(*it->second,
                {FinishReason::kCancelled,
                 MakeError(absl::StatusCode::kCancelled, ErrorReason::kCancelled, "cancelled by the client"), ""});
  SweepEnded();
}

void EngineCore::EndAll(const End& end) {
  std::vector<Generation*> generations;
  for (const auto& [id, generation] : generations_) generations.push_back(generation.get());
  for (Generation* const generation : generations) {
    if (generation->unfinished > 0) EndGeneration(*generation, end);
  }
  SweepEnded();
  EndExports(end.status);
}

void EngineCore::Fail(const absl::Status& status) {
  if (!failure_.ok()) return;
  std::vector<std::string> state = DescribeState();
  failure_ = ExecutorFailure(status);
  const End end{FinishReason::kFailed, failure_, ""};
  for (const auto& [id, generation] : generations_) {
    for (Choice& choice : generation->choices) {
      // What the lanes hold is lost, and no page is handed out again: no kFinished to wait for.
      if (choice.state == ChoiceState::kWaiting) dispatcher_.Dequeue(&choice);
      if (choice.state == ChoiceState::kRunning) {
        dispatcher_.Vacate(&choice, /*requeue=*/false);
        choice.sequence->DropPages();
      }
      if (choice.state == ChoiceState::kIdle) Finish(choice, choice.end.value_or(end));
    }
  }
  SweepEnded();
  EndExports(failure_);
  hooks_.on_failure({.status = failure_, .state = std::move(state)});
}

bool EngineCore::HasReclaimable() const {
  return options_.reclaim_idle_sessions && sessions_.LeastRecentlyUsed() != nullptr;
}

void EngineCore::Reclaim() {
  ReclaimFrom(sessions_.LeastRecentlyUsed());
}

void EngineCore::ReclaimFrom(Session* session) {
  sessions_.Take(session);
  session->sequence.DropPages();
  sessions_.Put(session);
  ++totals_.sessions_reclaimed;
}

EngineStats EngineCore::Stats() const {
  EngineStats stats = totals_;
  stats.sequences_running = dispatcher_.num_running();
  stats.sessions = sessions_.size();
  stats.pages_total = cache_.num_pages();
  stats.pages_used = cache_.num_used();
  stats.pages_cached = cache_.num_cached();
  stats.pages_free = cache_.num_free();
  stats.preemptions = dispatcher_.num_preemptions();
  return stats;
}

}  // namespace megakernel
