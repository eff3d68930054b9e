// What operators have beside the API: metrics, AdminService, reloading, folder of saved sessions.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/admin_server.h"
#include "server/metrics_listener.h"
#include "server/options.h"
#include "server/reload.h"
#include "server/security.h"
#include "server/server.h"

namespace megakernel {

// Null without --session-dir. FailedPrecondition naming flag and folder.
absl::StatusOr<std::shared_ptr<SessionStore>> OpenSessionStore(const ServerOptions& options);

// Thread-safe.
class Operations {
 public:
  // Starts the listeners that the options ask for, and logs their addresses. `arguments` are those of the command line:
  // reloading reads them and the configuration file again. All others outlive this. Unavailable when an address cannot
  // be had; errors name the flag.
  static absl::StatusOr<std::unique_ptr<Operations>> Start(const ServerOptions& options,
                                                           std::vector<std::string> arguments, Server& server,
                                                           Security& security);
  // As AdminService.Reload; outcomes are in the log.
  void Reload() { reloader_.Reload(); }

 private:
  Operations(const ServerOptions& options, std::vector<std::string> arguments)
      : options_(options), arguments_(std::move(arguments)) {}
  absl::StatusOr<std::string> ReloadLogLevel() const;
  std::vector<std::string> RestartNeeded() const;

  const ServerOptions& options_;
  const std::vector<std::string> arguments_;
  Reloader reloader_;
  std::unique_ptr<AdminServer> admin_;
  std::unique_ptr<MetricsListener> metrics_;
};

}  // namespace megakernel
