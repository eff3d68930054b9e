#include "server/operations.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "server/command_line.h"
#include "server/metrics_page.h"
#include "spdlog/spdlog.h"

namespace megakernel {
namespace {

absl::Status OfFlag(const char* flag, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(flag, ": ", status.message()));
}

}  // namespace

absl::StatusOr<std::shared_ptr<SessionStore>> OpenSessionStore(const ServerOptions& options) {
  if (options.session_dir.empty()) return std::shared_ptr<SessionStore>();
  auto store = SessionStore::Open(options.session_dir, static_cast<int>(options.max_saved_sessions));
  if (!store.ok()) return OfFlag("--session-dir", store.status());
  return std::shared_ptr<SessionStore>(*std::move(store));
}

absl::StatusOr<std::unique_ptr<Operations>> Operations::Start(const ServerOptions& options,
                                                              std::vector<std::string> arguments, Server& server,
                                                              Security& security) {
  std::unique_ptr<Operations> operations(new Operations(options, std::move(arguments)));
  operations->reloader_.Add("log_level", [self = operations.get()] { return self->ReloadLogLevel(); });
  operations->reloader_.Add("security", [&security]() -> absl::StatusOr<std::string> {
    MK_RETURN_IF_ERROR(security.Reload());
    return std::string("certificate and tokens as the files say");
  });
  if (!options.metrics_listen.empty()) {
    auto metrics = MetricsListener::Start(options.metrics_listen, [&server] { return MetricsPage(server); });
    if (!metrics.ok()) return OfFlag("--metrics-listen", metrics.status());
    operations->metrics_ = *std::move(metrics);
    spdlog::info("metrics address=http://{}/metrics", operations->metrics_->address());
  }
  if (!options.admin_listen.empty()) {
    auto admin = AdminServer::Start({.listen = options.admin_listen,
                                     .access = security.access(),
                                     .reloader = &operations->reloader_,
                                     .restart_needed = [self = operations.get()] { return self->RestartNeeded(); }},
                                    server);
    if (!admin.ok()) return OfFlag("--admin-listen", admin.status());
    operations->admin_ = *std::move(admin);
    spdlog::info("admin address={}", operations->admin_->address());
  }
  return operations;
}

absl::StatusOr<std::string> Operations::ReloadLogLevel() const {
  MK_ASSIGN_OR_RETURN(const CommandLine line, ParseCommandLine(arguments_));
  spdlog::set_level(spdlog::level::from_str(line.options.log_level));
  return line.options.log_level;
}

std::vector<std::string> Operations::RestartNeeded() const {
  std::vector<std::string> flags;
  const absl::StatusOr<CommandLine> line = ParseCommandLine(arguments_);
  if (!line.ok()) return flags;  // Reload has said so
  for (const Option& option : Options()) {
    if (option.flag == "log-level") continue;
    if (OptionText(option, line->options) != OptionText(option, options_)) {
      flags.push_back(absl::StrCat("--", std::string(option.flag)));
    }
  }
  return flags;
}

}  // namespace megakernel
