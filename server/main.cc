#include <cstdio>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "server/command_line.h"
#include "server/loading.h"
#include "server/log.h"
#include "server/model_description.h"
#include "server/operations.h"
#include "server/security.h"
#include "server/server.h"
#include "server/shutdown.h"
#include "spdlog/spdlog.h"

namespace megakernel {
namespace {

// Documented on the help page.
constexpr int kExitOk = 0;
constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;

int Serve(const ServerOptions& options, const std::vector<std::string>& arguments) {
  StartLog(options.log_level);
  BlockSignals();
  spdlog::info("megakernel-server version={}", VersionText());
  auto security = Security::Open(options);
  if (!security.ok()) {
    std::fprintf(stderr, "megakernel-server: %s\n", std::string(security.status().message()).c_str());
    return absl::IsUnavailable(security.status()) ? kExitFailure : kExitUsage;
  }
  auto store = OpenSessionStore(options);
  if (!store.ok()) {
    std::fprintf(stderr, "megakernel-server: %s\n", std::string(store.status().message()).c_str());
    return kExitUsage;
  }
  const ServerSettings settings = {.listen = options.listen,
                                   .insecure_listen = options.insecure_listen,
                                   .tls = (*security)->tls(),
                                   .access = (*security)->access(),
                                   .reflection = options.reflection,
                                   .write_timeout = options.write_timeout,
                                   .keepalive_time = options.keepalive_time,
                                   .keepalive_timeout = options.keepalive_timeout,
                                   .max_connection_age = options.max_connection_age > absl::ZeroDuration()
                                                             ? options.max_connection_age
                                                             : absl::InfiniteDuration(),
                                   .max_request_bytes = options.max_request_size,
                                   .session_store = *store,
                                   .log = LogRequest};
  SteadyClock clock;
  auto server = Server::Listen(settings, clock);
  if (!server.ok()) {
    std::fprintf(stderr, "megakernel-server: %s\n", std::string(server.status().message()).c_str());
    return absl::IsUnavailable(server.status()) ? kExitFailure : kExitUsage;
  }
  spdlog::info("listening address={} instance={}", (*server)->address(), (*server)->instance_id());
  auto operations = Operations::Start(options, arguments, **server, **security);
  if (!operations.ok()) {
    std::fprintf(stderr, "megakernel-server: %s\n", std::string(operations.status().message()).c_str());
    return absl::IsUnavailable(operations.status()) ? kExitFailure : kExitUsage;
  }
  Loading loading(options, **server, clock, (*security)->quotas());
  if (const absl::Status loaded = AwaitLoaded(loading, **server); !loaded.ok()) {
    std::fprintf(stderr, "megakernel-server: %s\n", std::string(loaded.message()).c_str());
    return ReasonOf(loaded) == ErrorReason::kExecutorFailed ? kExitFailure : kExitUsage;
  }
  const bool ended_well = RunUntilSignal(**server, loading.engine(),
                                         {.drain_delay = options.drain_delay,
                                          .drain_timeout = options.drain_timeout,
                                          .reload = [&operations] { (*operations)->Reload(); }});
  operations->reset();  // before the server
  server->reset();      // before the engine
  return ended_well ? kExitOk : kExitFailure;
}

int Main(const std::vector<std::string>& arguments) {
  const auto line = ParseCommandLine(arguments);
  if (!line.ok()) {
    std::fprintf(stderr, "megakernel-server: %s\n", std::string(line.status().message()).c_str());
    return kExitUsage;
  }
  switch (line->action) {
    case CommandLine::Action::kHelp:
      std::fputs(HelpPage().c_str(), stdout);
      return kExitOk;
    case CommandLine::Action::kVersion:
      std::printf("megakernel-server %s\n", VersionText());
      return kExitOk;
    case CommandLine::Action::kServe:
      return Serve(line->options, arguments);
  }
  return kExitUsage;
}

}  // namespace
}  // namespace megakernel

int main(int argc, char** argv) {
  return megakernel::Main({argv + 1, argv + argc});
}
