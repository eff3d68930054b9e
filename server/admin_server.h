// What operators ask of a running server, on a listener of its own: AdminService, channelz, reflection.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/access.h"
#include "server/reload.h"
#include "server/server.h"

namespace megakernel {

struct AdminSettings {
  std::string listen;                     // ParseListenAddress; only this machine may reach it
  const AccessControl* access = nullptr;  // null: nobody needs a token
  Reloader* reloader = nullptr;           // not null
  // Flags of options that differ from those the server runs with and need a restart.
  std::function<std::vector<std::string>()> restart_needed;
};

// Thread-safe.
class AdminServer {
 public:
  // Listens and serves until it is destroyed. `server` and what the settings point to outlive it. Unavailable when the
  // address cannot be had; FailedPrecondition when other machines can reach it: calls are not encrypted.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(const AdminSettings& settings, Server& server);
  ~AdminServer();
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  // With the port that is listened on.
  std::string address() const;

 private:
  struct State;
  explicit AdminServer(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace megakernel
