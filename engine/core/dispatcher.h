// Lanes and the queue for them: carries out what the Scheduler decides, in terms of choices, pages and commands.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "absl/status/status.h"
#include "engine/core/generation.h"
#include "engine/core/kv_cache.h"
#include "engine/core/scheduler.h"
#include "engine/executor/executor.h"

namespace megakernel {

// What the dispatcher asks of its owner. Called from Schedule().
class DispatchHost {
 public:
  virtual ~DispatchHost() = default;
  // Whether idle sessions hold pages, and taking those of one.
  virtual bool HasReclaimable() const = 0;
  virtual void Reclaim() = 0;
  // The choice, waiting or running, gets no more pages and must end.
  virtual void OnExhausted(Choice* choice, absl::Status status) = 0;
  // A waiting, prefill-only choice has nothing to compute. It no longer waits.
  virtual void OnNothingToPrefill(Choice* choice) = 0;
};

// Engine thread only.
class Dispatcher {
 public:
  Dispatcher(Executor* executor, KvCache* cache, bool share_prefixes, DispatchHost* host);

  // Queues a kIdle choice. Its place is that of its order, which is given here.
  void Enqueue(Choice* choice);
  // Takes a kWaiting choice out of the queue; it is kIdle again.
  void Dequeue(Choice* choice);
  // Ends what the lane of a kRunning choice does at the next step border. Idempotent.
  void Cancel(Choice* choice);
  // The lane's kFinished was drained, and the sequence is settled: frees the lane. The choice is kIdle again, unless it
  // was preempted and `requeue`: then its pages are taken and it waits, at its old place.
  void Vacate(Choice* choice, bool requeue);

  // Grants pages, preempts, admits, as far as the state allows.
  void Schedule();

  // What runs in a lane; null for none and for a number that is no lane.
  Choice* InLane(std::int32_t lane) const;
  int num_waiting() const { return static_cast<int>(waiting_.size()); }
  int num_running() const { return static_cast<int>(running_.size()); }
  std::int64_t num_preemptions() const { return num_preemptions_; }
  // Not OK when the executor refused a command: it is broken.
  const absl::Status& status() const { return status_; }

 private:
  void GrantPages();
  bool AdmitOldest();
  void Admit(Choice* choice, const PagePlan& plan, std::int32_t capacity);
  // Pages of idle sessions, or of the youngest waiting choice but `except`. False when nobody holds any.
  bool CanReclaim(const Choice* except) const;
  bool ReclaimOne(const Choice* except);
  Choice* YoungestHolder(const Choice* except) const;
  void ViewLanes();
  void Submit(Command command);

  Executor* const executor_;
  KvCache* const cache_;
  const bool share_prefixes_;
  DispatchHost* const host_;
  const Scheduler scheduler_;
  std::map<std::uint64_t, Choice*> waiting_;  // by order
  std::vector<Choice*> running_;              // by order
  std::vector<Choice*> lanes_;                // by lane; null: free
  std::vector<std::int32_t> free_lanes_;
  std::vector<LaneView> views_;  // of running_, in the same order
  GrantPlan grants_;
  std::uint64_t next_order_ = 1;
  std::uint32_t next_epoch_ = 1;
  std::int64_t num_preemptions_ = 0;
  // The oldest waiting choice did not fit when the cache was at this version.
  const Choice* blocked_ = nullptr;
  std::uint64_t blocked_version_ = 0;
  absl::Status status_;
};

}  // namespace megakernel
