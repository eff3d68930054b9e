// What the engine thread does: takes requests and session operations, moves generations along, hands tokens over.
//
// No thread and no queue of its own: EngineLoop calls it from one thread. Every way in which a generation can end comes
// together in Finish().
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/core/dispatcher.h"
#include "engine/core/engine.h"
#include "engine/core/generation.h"
#include "engine/core/kv_cache.h"
#include "engine/core/metrics.h"
#include "engine/core/session_image.h"
#include "engine/core/session_table.h"
#include "engine/executor/executor.h"
#include "engine/model/model.h"

namespace megakernel {

// Engine thread only.
class EngineCore final : private DispatchHost {
 public:
  struct Hooks {
    // A generation left the bounded queue: it was admitted, or ended before. Once per generation.
    std::function<void()> on_left_queue;
    // Its last Finished is about to be pushed: a good moment to publish statistics.
    std::function<void()> on_ending;
    // Its last Finished was pushed.
    std::function<void()> on_ended;
    // The executor has failed, and every generation has ended with that.
    std::function<void(EngineFailure)> on_failure;
  };

  // `metrics` outlives it.
  EngineCore(const EngineOptions& options, std::int32_t max_context, const Model* model, Executor* executor,
             const Clock* clock, EngineMetrics* metrics, Hooks hooks);
  ~EngineCore() override;

  // Looks at the clock: before anything else in a round.
  void BeginRound() { now_ = clock_->Now(); }

  // --- Requests ---
  void Start(std::unique_ptr<Generation> generation);
  // By its consumer. Unknown ids (it has ended) are ignored.
  void Cancel(std::uint64_t generation_id);

  // --- Sessions: see Engine ---
  absl::StatusOr<SessionInfo> CreateSession(const std::string& tenant, std::optional<absl::Duration> ttl);
  absl::StatusOr<SessionInfo> GetSession(const std::string& tenant, const std::string& id, bool include_tokens);
  absl::StatusOr<SessionPage> ListSessions(const std::string& tenant, int page_size, const std::string& page_token);
  absl::StatusOr<SessionInfo> ForkSession(const std::string& tenant, const std::string& id,
                                          std::optional<std::int32_t> length, std::optional<absl::Duration> ttl);
  absl::StatusOr<SessionInfo> RollbackSession(const std::string& tenant, const std::string& id, std::int32_t length);
  void DeleteSession(const std::string& tenant, const std::string& id, SessionCallback done);
  void ExportSession(const std::string& tenant, const std::string& id, SessionImageCallback done);
  absl::StatusOr<SessionInfo> ImportSession(const std::string& tenant, SessionImage image,
                                            std::optional<absl::Duration> ttl);

  // --- The loop ---
  // Drains events, ends what is over, schedules. Returns the time at which it should be called again at the latest.
  absl::Time Poll();
  // Nothing runs and nothing waits.
  bool idle() const { return generations_.empty() && exports_.empty(); }
  // The executor has something to do.
  bool executor_busy() const { return dispatcher_.num_running() > 0 || !exports_.empty(); }
  // Ends everything that runs or waits.
  void EndAll(const End& end);
  // The executor is broken: ends every generation at once, gives up its lanes, refuses whatever comes. Idempotent.
  void Fail(const absl::Status& status);
  // OK, or why the executor has failed.
  const absl::Status& failure() const { return failure_; }
  // kStopped was drained.
  bool stopped() const { return stopped_; }

  EngineStats Stats() const;
  // What runs and waits, a line each: counts and ages, no content.
  std::vector<std::string> DescribeState() const;

 private:
  // DispatchHost
  bool HasReclaimable() const override;
  void Reclaim() override;
  void OnExhausted(Choice* choice, absl::Status status) override;
  void OnNothingToPrefill(Choice* choice) override;

  // Start
  absl::Status Resolve(Generation& generation);
  void MarkBusy(Generation& generation);
  absl::Status CheckRoom(Generation& generation, std::int32_t base_length) const;
  void MakeChoices(Generation& generation);
  void Refuse(Generation& generation, absl::Status status);

  // Quotas
  TenantLimits LimitsOf(const std::string& tenant) const;
  // SessionTable::Add, or QUOTA_EXCEEDED.
  absl::StatusOr<Session*> AddSession(std::unique_ptr<Session> session);
  // QUOTA_EXCEEDED when the tenant may not use `pages` beside what it uses. Takes pages of its idle sessions but
  // `except`.
  absl::Status CheckPages(const std::string& tenant, std::int64_t pages, const Session* except);
  // Pages that the generation may come to need.
  std::int64_t PagesOf(const Generation& generation) const;
  std::int32_t TokenLimit(const Generation& generation) const;
  void ReclaimFrom(Session* session);

  // Images
  struct Export {
    std::unique_ptr<Sequence> sequence;  // holds the pages, whatever becomes of the session
    SessionImage image;
    std::int32_t pages_read = 0;
    SessionImageCallback done;
  };
  absl::Status ReadNextPages(std::uint64_t ticket, const Export& image_export);
  absl::Status CheckImage(const SessionImage& image, const std::string& tenant) const;
  absl::Status WriteImage(const SessionImage& image, Sequence& sequence);
  void OnPages(PageBytes& pages);
  void EndExports(const absl::Status& status);

  // Events
  void OnEvent(Event& event);
  void OnStarted(Choice& choice);
  void OnToken(Choice& choice, Event& event);
  void OnPromptLogprobs(Choice& choice, Event& event);
  void OnFinished(Choice& choice, const Event& event);
  void OnPrefilled(Choice& choice);
  void MarkStarted(Generation& generation);
  void MarkAdmitted(Generation& generation);

  // Ends
  void EndRunning(Choice& choice, End end);
  void EndChoice(Choice& choice, const End& end);
  void EndGeneration(Generation& generation, const End& end);
  void Finish(Choice& choice, const End& end);
  void LeaveSession(Generation& generation);
  void ForgetDeadline(const Generation& generation);
  Finished Summary(const Choice& choice, const End& end) const;
  void SweepEnded();

  void ExpireSessions();
  absl::StatusOr<Session*> FindIdle(const std::string& tenant, const std::string& id);
  SessionInfo Describe(const Session& session) const;
  static absl::StatusOr<absl::Duration> CheckTtl(std::optional<absl::Duration> ttl, absl::Duration otherwise);

  const EngineOptions options_;
  const std::int32_t max_context_;
  const Model* const model_;
  Executor* const executor_;
  const Clock* const clock_;
  EngineMetrics* const metrics_;
  const Hooks hooks_;

  KvCache cache_;
  SessionTable sessions_;
  Dispatcher dispatcher_;
  absl::flat_hash_map<std::uint64_t, std::unique_ptr<Generation>> generations_;
  std::multimap<absl::Time, std::uint64_t> deadlines_;  // -> generation id
  std::vector<std::uint64_t> ended_;  // to be erased from generations_ when nothing refers to them any more
  absl::flat_hash_map<std::uint64_t, Export> exports_;  // by ticket
  std::uint64_t next_ticket_ = 1;
  std::vector<Event> events_;
  std::string text_;  // of one token; kept for its memory
  absl::Time now_;    // of this round

  absl::Status failure_;
  bool stopped_ = false;
  EngineStats totals_;  // the counters only
};

}  // namespace megakernel
