// The gRPC server of one engine: services, health, reflection, and an orderly end.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/core/engine.h"
#include "server/access.h"
#include "server/call_counts.h"
#include "server/model_description.h"
#include "server/request_record.h"
#include "server/session_store.h"
#include "server/tls_files.h"
#include "server/write_latency.h"

namespace megakernel {

struct ServerSettings {
  std::string listen = "127.0.0.1:0";
  // Lets other machines connect without encryption: see listen_check.h.
  bool insecure_listen = false;
  std::shared_ptr<TlsFiles> tls;          // null: calls travel unencrypted
  const AccessControl* access = nullptr;  // null: nobody needs a token; outlives the server
  bool reflection = true;
  ServingLimits limits = {};  // as GetModel reports them: of Start
  // A client that takes nothing for this long loses its call; noticed within half a second.
  absl::Duration write_timeout = absl::Seconds(30);
  // A peer that vanished without a word is noticed after both. The first one: a connection without a sign of life is
  // asked for one.
  absl::Duration keepalive_time = absl::Minutes(1);
  absl::Duration keepalive_timeout = absl::Seconds(20);
  // Connections are closed in good order after this long, calls on them go on to their end. So that clients spread anew
  // over several servers.
  absl::Duration max_connection_age = absl::InfiniteDuration();
  // Larger requests are refused by gRPC with RESOURCE_EXHAUSTED. The default holds 4 MiB of text or a million token
  // ids.
  std::int64_t max_request_bytes = 16 << 20;
  std::shared_ptr<SessionStore> session_store = nullptr;  // null: sessions cannot be saved
  RequestLog log = nullptr;  // called when a Generate or Decode call has ended; on threads that must not wait
};

struct ServerLoad {
  enum class State { kLoading, kServing, kDraining, kFailed };
  State state = State::kLoading;
  std::int64_t open_calls = 0;
};

// Life: Listen (health NOT_SERVING, every call is refused with STARTING) -> Serve (SERVING) -> Drain -> WaitCalls ->
// Stop -> destruction. Thread-safe.
class Server {
 public:
  // Listens. `clock` outlives the server. Unavailable when the address cannot be had, saying
  // why: another process listens there, or the name is unknown. Errors of CheckListen (listen_check.h).
  static absl::StatusOr<std::unique_ptr<Server>> Listen(const ServerSettings& settings, const Clock& clock);
  // Once: lets calls in, unless the server drains. `engine` outlives the server.
  void Serve(Engine& engine, const ServingLimits& limits);
  // Listen and Serve.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const ServerSettings& settings, Engine& engine,
                                                       const Clock& clock);
  // Stop(now).
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // The port that is listened on.
  int port() const;
  // The address, with that port.
  std::string address() const;
  const std::string& instance_id() const;

  // Health of every service and of "". Stays NOT_SERVING once the server drains.
  void SetServing(bool serving);

  // The executor has failed: health NOT_SERVING for good. Does not wait.
  void Fail();
  // Ends what is open with `status`, whether or not the engine answers.
  void EndCalls(const absl::Status& status);

  // Health NOT_SERVING, idle Decode streams end with UNAVAILABLE, the engine refuses new work with UNAVAILABLE.
  void Drain();
  // Waits until no Generate or Decode call is open. False when `timeout` passes first.
  bool WaitCalls(absl::Duration timeout);
  // Stops listening; what is still open, such as a watch of the health, is cancelled after `timeout`.
  void Stop(absl::Duration timeout);

  // Tokens from engine to network since the start.
  WriteLatency& write_latency();
  // Generate and Decode calls that are open.
  std::size_t open_calls() const;
  ServerLoad load() const;
  // Null before Serve.
  const Engine* engine() const;
  // Of Generate and Decode.
  const CallCounts& call_counts() const;

 private:
  struct State;
  explicit Server(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace megakernel
