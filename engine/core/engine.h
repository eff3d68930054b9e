// The engine as the server sees it: generations and sessions on one model and one executor.
//
// Every call returns at once; one engine thread does the work. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/core/metrics.h"
#include "engine/core/request.h"
#include "engine/core/session.h"
#include "engine/core/session_image.h"
#include "engine/core/tenant_quota.h"
#include "engine/core/token_stream.h"
#include "engine/executor/executor.h"
#include "engine/model/model.h"

namespace megakernel {

struct EngineFailure {
  absl::Status status;             // EXECUTOR_FAILED
  std::vector<std::string> state;  // what ran and waited, a line each, for the log: counts and ages, no content
};

struct EngineOptions {
  // Requests that may wait for a lane; one more is refused with QUEUE_FULL.
  int max_queue = 256;
  // Sessions that may exist.
  int max_sessions = 1024;
  // A session that was idle for this long is deleted.
  absl::Duration session_ttl = absl::Minutes(10);
  // Equal prefixes of one tenant's sequences are computed once.
  bool prefix_sharing = true;
  // Equal prefixes of different tenants are computed once too: one tenant can then tell, by usage.cached_tokens and by
  // time, what others have asked.
  bool share_across_tenants = false;
  // What each tenant may use; null: no limits. Outlives the engine.
  TenantQuotas* quotas = nullptr;
  // When pages run out, take those of idle sessions, least recently used first: their tokens stay and the next use
  // computes them again (usage.cached_tokens tells). Otherwise the request fails with KV_EXHAUSTED.
  bool reclaim_idle_sessions = true;
  // Tokens of one sequence. 0: what model, executor and memory allow; more than that is refused by Create.
  std::int32_t max_context = 0;
  // Tokens that may wait in one stream for its consumer.
  int stream_buffer = 4096;
  // Rows that prompts may take of a step in which others decode: bounds the time between two tokens. 0: a quarter of
  // the executor's rows, at least 16.
  std::int32_t prompt_rows_busy = 0;
  // An executor whose heartbeat rests for this long while work is pending has failed. A heartbeat is progress inside a
  // step, so a step may take longer; time in which the process did not run is not counted.
  absl::Duration stall_timeout = absl::Milliseconds(1200);
  // After this long without work the executor is told to give up the processor.
  absl::Duration park_after = absl::Milliseconds(100);
  // Called once, when the executor has failed or the engine thread hangs: all new work is refused from now on. Every
  // stream has ended with EXECUTOR_FAILED, unless it is the engine thread that hangs. The process should report
  // NOT_SERVING and exit. On the engine's thread or the watchdog's; must not wait.
  std::function<void(const EngineFailure&)> on_failure;
};

// A snapshot. When nothing runs, waits or is kept, pages_used is 0.
struct EngineStats {
  std::int64_t requests_waiting = 0;
  std::int64_t sequences_running = 0;  // lanes in use
  std::int64_t sessions = 0;
  std::int64_t pages_total = 0;
  std::int64_t pages_used = 0;    // by sequences and sessions
  std::int64_t pages_cached = 0;  // prefixes nobody uses at the moment; given up when needed
  std::int64_t pages_free = 0;
  // Since the start.
  std::int64_t requests = 0;
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;
  std::int64_t output_tokens = 0;
  std::int64_t preemptions = 0;
  std::int64_t sessions_reclaimed = 0;  // idle sessions whose pages were taken
  std::int64_t sessions_expired = 0;
  // For how long the executor has not moved although it has work.
  absl::Duration heartbeat_age;
};

class EngineLoop;

class Engine {
 public:
  // Starts the engine thread. `model` and `clock` outlive the engine.
  // InvalidArgument when options and executor do not fit, naming the option.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const EngineOptions& options, const Model* model,
                                                        std::unique_ptr<Executor> executor, Clock* clock);
  // Shutdown(0).
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Queues a generation. Refused at once: what ValidateRequest refuses, QUEUE_FULL, DRAINING, EXECUTOR_FAILED. What
  // only the engine thread can know (SESSION_*, LENGTH_MISMATCH, a session's length over the context) arrives as the
  // stream's Finished, with no Started before it.
  // A stream that nobody holds any more is not cancelled by that: call Cancel or Detach.
  absl::StatusOr<std::shared_ptr<TokenStream>> Generate(GenerateRequest request);

  // Session operations. `done` gets what the session is afterwards, or SESSION_NOT_FOUND, SESSION_EXPIRED,
  // SESSION_BUSY and what is named below. DRAINING and QUEUE_FULL call `done` on the caller's thread.
  // `idle_ttl` unset: that of the options. SESSION_LIMIT; InvalidArgument (INVALID_FIELD idle_ttl).
  void CreateSession(std::string tenant, std::optional<absl::Duration> idle_ttl, SessionCallback done);
  // Also while busy: then `length` counts what was handed to the stream so far. Does not count as use.
  void GetSession(std::string tenant, std::string id, bool include_tokens, SessionCallback done);
  // page_size 0: 100. InvalidArgument (INVALID_FIELD page_size, page_token).
  void ListSessions(std::string tenant, int page_size, std::string page_token, SessionPageCallback done);
  // A new session with the first `length` tokens (unset: all); pages are shared until one of the two writes.
  // `idle_ttl` unset: that of the session. InvalidArgument (INVALID_FIELD length, idle_ttl); SESSION_LIMIT.
  void ForkSession(std::string tenant, std::string id, std::optional<std::int32_t> length,
                   std::optional<absl::Duration> idle_ttl, SessionCallback done);
  // Forgets every token from `length` on. InvalidArgument (INVALID_FIELD length) when it is longer than the session.
  void RollbackSession(std::string tenant, std::string id, std::int32_t length, SessionCallback done);
  // While an operation runs, that operation ends first, with SESSION_DELETED; the id is unknown from now on. `done`
  // gets an empty SessionInfo.
  void DeleteSession(std::string tenant, std::string id, SessionCallback done);

  // The session as it is, for a file (session_file.h) or another engine of the same model and executor format; counts
  // as use. The session can be used, changed and deleted while its pages are being read. Unimplemented (UNSUPPORTED)
  // when the executor transfers no pages; SESSION_BUSY, SESSION_NOT_FOUND, SESSION_EXPIRED; DRAINING at the end of the
  // engine.
  void ExportSession(std::string tenant, std::string id, SessionImageCallback done);
  // A new session with an image's tokens, keys and values. The image's bytes are believed: equal prefixes of others are
  // used for it, its own are never given to others. SESSION_FOREIGN; SESSION_LIMIT; KV_EXHAUSTED; CONTEXT_EXCEEDED;
  // SESSION_CORRUPT when its numbers do not fit together; InvalidArgument (INVALID_FIELD idle_ttl).
  void ImportSession(std::string tenant, SessionImage image, std::optional<absl::Duration> idle_ttl,
                     SessionCallback done);
  // What an image must be to be imported for a tenant.
  ImageFormat image_format(const std::string& tenant) const;

  // New generations and sessions are refused with DRAINING from now on; what was accepted goes on.
  void Drain();
  // Waits until nothing runs or waits; false when `timeout` of real time is over first. Not for the engine thread.
  bool WaitIdle(absl::Duration timeout);
  // Drains, waits at most `grace`, ends what is left with DRAINING, stops the executor and joins the thread. What is
  // called afterwards is refused with DRAINING. Idempotent. Not for the engine thread.
  void Shutdown(absl::Duration grace);

  // OK, or why the executor has failed (EXECUTOR_FAILED).
  absl::Status Health() const;
  EngineStats Stats() const;
  // Lives as long as the engine.
  const EngineMetrics& metrics() const;
  const ExecutorInfo& info() const;
  const Model& model() const;
  // Tokens a sequence may have.
  std::int32_t max_context() const;
  // Makes the engine thread look at the clock: for tests that move it.
  void Wake();

 private:
  explicit Engine(std::unique_ptr<EngineLoop> loop);

  std::unique_ptr<EngineLoop> loop_;
};

}  // namespace megakernel
