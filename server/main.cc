#include <cstdio>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "server/command_line.h"
#include "server/log.h"
#include "server/model_description.h"
#include "server/server.h"
#include "server/shutdown.h"
#include "server/startup.h"
#include "spdlog/spdlog.h"

namespace megakernel {
namespace {

// Documented on the help page.
constexpr int kExitOk = 0;
constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;

int Serve(const ServerOptions& options) {
  StartLog(options.log_level);
  BlockSignals();
  spdlog::info("megakernel-server version={}", VersionText());
  auto stack = BuildServingStack(options, [](const EngineFailure& failure) {
    spdlog::critical("executor failed: {}", std::string(failure.status.message()));
    for (const std::string& line : failure.state) spdlog::critical("state {}", line);
    NotifyFailure();
  });
  if (!stack.ok()) {
    std::fprintf(stderr, "megakernel-server: %s\n", std::string(stack.status().message()).c_str());
    return kExitUsage;
  }
  const ServerSettings settings = {.listen = options.listen,
                                   .reflection = options.reflection,
                                   .limits = stack->limits,
                                   .write_timeout = options.write_timeout,
                                   .keepalive_time = options.keepalive_time,
                                   .keepalive_timeout = options.keepalive_timeout,
                                   .max_connection_age = options.max_connection_age > absl::ZeroDuration()
                                                             ? options.max_connection_age
                                                             : absl::InfiniteDuration(),
                                   .max_request_bytes = options.max_request_size,
                                   .log = LogRequest};
  auto server = Server::Start(settings, *stack->engine, *stack->clock);
  if (!server.ok()) {
    std::fprintf(stderr, "megakernel-server: %s\n", std::string(server.status().message()).c_str());
    return kExitFailure;
  }
  const std::string host = options.listen.substr(0, options.listen.rfind(':'));
  spdlog::info("listening address={}:{} instance={}", host, (*server)->port(), (*server)->instance_id());
  return RunUntilSignal(**server, *stack->engine, options.drain_timeout) ? kExitOk : kExitFailure;
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
      return Serve(line->options);
  }
  return kExitUsage;
}

}  // namespace
}  // namespace megakernel

int main(int argc, char** argv) {
  return megakernel::Main({argv + 1, argv + argc});
}
