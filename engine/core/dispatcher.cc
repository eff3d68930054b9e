#include "engine/core/dispatcher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace megakernel {
namespace {

// Positions that a lane is given pages for ahead of its last known token. At 1 ms a step the engine thread may be away
// for 64 ms before a lane pauses.
constexpr std::int32_t kLookahead = 64;

bool ByOrder(const Choice* a, const Choice* b) {
  return a->order < b->order;
}

}  // namespace

Dispatcher::Dispatcher(Executor* executor, KvCache* cache, bool share_prefixes, DispatchHost* host)
    : executor_(executor),
      cache_(cache),
      share_prefixes_(share_prefixes),
      host_(host),
      scheduler_({.page_tokens = cache->page_tokens(), .lookahead = kLookahead}),
      lanes_(executor->info().max_lanes, nullptr) {
  for (std::int32_t lane = executor->info().max_lanes - 1; lane >= 0; --lane) free_lanes_.push_back(lane);
  running_.reserve(lanes_.size());
  views_.reserve(lanes_.size());
}

void Dispatcher::Submit(Command command) {
  if (!status_.ok()) return;
  status_ = executor_->Submit(std::move(command));
}

void Dispatcher::Enqueue(Choice* choice) {
  MK_CHECK(choice->state == ChoiceState::kIdle && choice->sequence != nullptr);
  choice->state = ChoiceState::kWaiting;
  choice->order = next_order_++;
  waiting_.emplace(choice->order, choice);
}

void Dispatcher::Dequeue(Choice* choice) {
  MK_CHECK(choice->state == ChoiceState::kWaiting);
  choice->state = ChoiceState::kIdle;
  waiting_.erase(choice->order);
  if (blocked_ == choice) blocked_ = nullptr;
}

void Dispatcher::Cancel(Choice* choice) {
  MK_CHECK(choice->state == ChoiceState::kRunning);
  if (std::exchange(choice->cancel_sent, true)) return;
  Submit(megakernel::Cancel{.lane = choice->lane, .epoch = choice->epoch});
}

void Dispatcher::Vacate(Choice* choice, bool requeue) {
  MK_CHECK(choice->state == ChoiceState::kRunning && lanes_[choice->lane] == choice);
  lanes_[choice->lane] = nullptr;
  free_lanes_.push_back(choice->lane);
  running_.erase(std::lower_bound(running_.begin(), running_.end(), choice, ByOrder));
  choice->lane = -1;
  choice->state = ChoiceState::kIdle;
  blocked_ = nullptr;
  if (!std::exchange(choice->preempted, false) || !requeue) return;
  choice->sequence->DropPages();
  choice->state = ChoiceState::kWaiting;
  waiting_.emplace(choice->order, choice);
}

Choice* Dispatcher::InLane(std::int32_t lane) const {
  return lane >= 0 && lane < static_cast<std::int32_t>(lanes_.size()) ? lanes_[lane] : nullptr;
}

void Dispatcher::Schedule() {
  GrantPages();
  while (!waiting_.empty() && !free_lanes_.empty() && status_.ok() && AdmitOldest()) {
  }
}

void Dispatcher::ViewLanes() {
  views_.clear();
  for (const Choice* choice : running_) {
    views_.push_back({.lane = choice->lane,
                      .order = choice->order,
                      .length = choice->sequence->length(),
                      .token_limit = choice->prefill_only ? 0 : choice->token_limit,
                      .capacity = choice->sequence->capacity(),
                      .stopping = choice->cancel_sent});
  }
}

void Dispatcher::GrantPages() {
  while (true) {
    ViewLanes();
    // Whether there is anything to take matters only when pages are short, and is not free to find out.
    const bool is_short = cache_->available() < static_cast<std::int32_t>(running_.size());
    scheduler_.PlanGrants(views_, {.available = cache_->available(), .reclaimable = is_short && CanReclaim(nullptr)},
                          grants_);
    for (const Grant& grant : grants_.grants) {
      Choice* const choice = lanes_[grant.lane];
      Submit(megakernel::GrantPages{
          .lane = grant.lane, .epoch = choice->epoch, .pages = choice->sequence->Grow(grant.pages)});
    }
    if (!grants_.reclaim) break;
    MK_CHECK(ReclaimOne(nullptr));
  }
  if (grants_.preempt >= 0) {
    Choice* const choice = lanes_[grants_.preempt];
    choice->preempted = true;
    ++num_preemptions_;
    Cancel(choice);
  }
  if (grants_.exhausted >= 0) {
    Choice* const choice = lanes_[grants_.exhausted];
    host_->OnExhausted(choice,
                       MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kKvExhausted,
                                 absl::StrCat("no KV page is left after ", choice->sequence->length(),
                                              " tokens: idle sessions hold the rest of ", cache_->num_pages())));
  }
}

// True when the queue moved: the next one may be tried.
bool Dispatcher::AdmitOldest() {
  Choice* const choice = waiting_.begin()->second;
  if (blocked_ == choice && blocked_version_ == cache_->version()) return false;
  Sequence& sequence = *choice->sequence;
  if (choice->prefill_only && sequence.kv_length() >= sequence.length() - 1) {
    Dequeue(choice);
    host_->OnNothingToPrefill(choice);
    return true;
  }
  const WaitingView view{
      .length = sequence.length(), .token_limit = choice->token_limit, .prefill_only = choice->prefill_only};
  const std::int32_t capacity = scheduler_.MinCapacity(view);
  const PagePlan plan = sequence.PlanPages(capacity, share_prefixes_ && !choice->generation->wants_prompt_logprobs());
  const std::int32_t pages = plan.new_pages + plan.idle_hits;
  ViewLanes();
  const bool is_short = cache_->available() < pages + static_cast<std::int32_t>(running_.size());
  switch (scheduler_.Admit(pages, views_,
                           {.available = cache_->available(), .reclaimable = is_short && CanReclaim(choice)})) {
    case Admission::kAdmit:
      break;
    case Admission::kReclaim:
      return ReclaimOne(choice);
    case Admission::kWait:
      blocked_ = choice;
      blocked_version_ = cache_->version();
      return false;
    case Admission::kReject:
      host_->OnExhausted(choice, MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kKvExhausted,
                                           absl::StrCat("needs ", pages, " KV pages, ", cache_->available(), " of ",
                                                        cache_->num_pages(), " can be had: idle sessions hold them")));
      return true;
  }
  // Half of what is left may go into the lookahead.
  const std::int32_t spare = (cache_->available() - pages - static_cast<std::int32_t>(running_.size())) / 2;
  const std::int32_t min_pages = layout::PagesFor(capacity, cache_->page_tokens());
  const std::int32_t best_pages = layout::PagesFor(scheduler_.BestCapacity(view), cache_->page_tokens());
  const std::int32_t granted = std::min(best_pages, min_pages + spare);
  Admit(choice, plan, granted * cache_->page_tokens());
  return true;
}

void Dispatcher::Admit(Choice* choice, const PagePlan& plan, std::int32_t capacity) {
  Sequence& sequence = *choice->sequence;
  if (const std::optional<CopyPage> copy = sequence.TakePages(plan, capacity)) Submit(*copy);
  if (choice->prefill_only && sequence.kv_length() >= sequence.length() - 1) {  // all of it was in the index
    Dequeue(choice);
    host_->OnNothingToPrefill(choice);
    return;
  }
  Generation& generation = *choice->generation;
  waiting_.erase(choice->order);
  choice->state = ChoiceState::kRunning;
  choice->lane = free_lanes_.back();
  choice->epoch = next_epoch_++;
  choice->next_position = sequence.length();
  choice->last_token = -1;
  choice->started = false;
  choice->cancel_sent = false;
  choice->preempted = false;
  free_lanes_.pop_back();
  lanes_[choice->lane] = choice;
  running_.insert(std::lower_bound(running_.begin(), running_.end(), choice, ByOrder), choice);
  if (!generation.has_started()) generation.cached_tokens = sequence.kv_length();

  megakernel::Admit admit{.lane = choice->lane,
                          .epoch = choice->epoch,
                          .order = choice->order,
                          .tokens = sequence.tokens(),
                          .kv_length = sequence.kv_length(),
                          .output_start = generation.prompt_length,
                          .token_limit = choice->token_limit,
                          .prefill_only = choice->prefill_only,
                          .pages = sequence.pages(),
                          .sampling = generation.request.sampling};
  admit.sampling.seed += choice->index;
  if (!generation.wants_prompt_logprobs()) admit.sampling.prompt_logprobs = -1;
  Submit(std::move(admit));
}

Choice* Dispatcher::YoungestHolder(const Choice* except) const {
  for (auto it = waiting_.rbegin(); it != waiting_.rend(); ++it) {
    if (it->second != except && !it->second->sequence->pages().empty()) return it->second;
  }
  return nullptr;
}

bool Dispatcher::CanReclaim(const Choice* except) const {
  return host_->HasReclaimable() || YoungestHolder(except) != nullptr;
}

bool Dispatcher::ReclaimOne(const Choice* except) {
  if (host_->HasReclaimable()) {
    host_->Reclaim();
    return true;
  }
  Choice* const holder = YoungestHolder(except);
  if (holder == nullptr) return false;
  holder->sequence->DropPages();
  return true;
}

}  // namespace megakernel
