#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>

#include <algorithm>
#include <climits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/call_context.h"
#include "server/inference_service.h"
#include "server/listen_check.h"
#include "server/request_conversion.h"
#include "server/session_service.h"
#include "server/stream_loop.h"
#include "server/task_pool.h"

namespace megakernel {
namespace {

// Clients may ask for signs of life this often, also while idle.
constexpr int kMinPingIntervalMs = 10'000;
constexpr int kEncodingThreads = 2;

constexpr const char* kServiceNames[] = {"", "megakernel.v1.InferenceService", "megakernel.v1.SessionService"};

// Switches reflection on or off for one server. Where the reflection library is linked whole it adds itself to every
// server of the process; where it is not, nobody does.
class ReflectionOption final : public grpc::ServerBuilderOption {
 public:
  explicit ReflectionOption(bool enabled) : enabled_(enabled) {}
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    auto reflection = std::make_unique<grpc::reflection::ProtoServerReflectionPlugin>();
    std::erase_if(*plugins, [&](const auto& plugin) { return plugin->name() == reflection->name(); });
    if (enabled_) plugins->push_back(std::move(reflection));
  }

 private:
  const bool enabled_;
};

// gRPC takes its largest int for "never".
int Milliseconds(absl::Duration duration) {
  return static_cast<int>(std::min<std::int64_t>(absl::ToInt64Milliseconds(duration), INT_MAX));
}

void Configure(const ServerSettings& settings, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(settings.max_request_bytes));
  // By default two servers may share a port, each with some of the connections.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(settings.keepalive_time));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Milliseconds(settings.keepalive_timeout));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, Milliseconds(settings.max_connection_age));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinPingIntervalMs);
  builder.SetOption(std::make_unique<ReflectionOption>(settings.reflection));
}

}  // namespace

struct Server::State {
  State(Engine& served_engine, const Clock& served_clock, const ServerSettings& settings,
        std::unique_ptr<grpc::ServerCompletionQueue> queue)
      : engine(served_engine),
        tasks(kEncodingThreads),
        streams(std::move(queue), [this] { live_calls.Tick(); }),
        context{.engine = served_engine,
                .clock = served_clock,
                .encoder = PromptEncoder(served_engine.model()),
                .tasks = tasks,
                .pump = streams,
                .live_calls = live_calls,
                .write_latency = write_latency,
                .instance_id = RandomName(8),
                .default_sampling = ServedDefaults(served_engine.model().config().sampling, served_engine.info()),
                .write_timeout = settings.write_timeout,
                .log = settings.log},
        inference(context, served_engine.model(),
                  DescribeModel(served_engine.model(), served_engine.info(), settings.limits, context.instance_id)),
        sessions(served_engine) {}

  Engine& engine;
  WriteLatency write_latency;
  LiveCalls live_calls;
  TaskPool tasks;
  StreamLoop streams;
  CallContext context;
  InferenceService inference;
  SessionService sessions;
  int port = 0;
  bool stopped = false;
  std::unique_ptr<grpc::Server> server;
};

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerSettings& settings, Engine& engine,
                                                      const Clock& clock) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  Configure(settings, builder);
  auto state = std::make_unique<State>(engine, clock, settings, builder.AddCompletionQueue());
  builder.AddListeningPort(settings.listen, grpc::InsecureServerCredentials(), &state->port);
  builder.RegisterService(&state->inference);
  builder.RegisterService(&state->sessions);
  state->server = builder.BuildAndStart();
  if (state->server == nullptr || state->port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", settings.listen, ": ", WhyNotListen(settings.listen)));
  }
  state->inference.ListenForStreams(state->streams);
  state->streams.Start();
  std::unique_ptr<Server> server(new Server(std::move(state)));
  server->SetServing(true);
  return server;
}

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}

Server::~Server() {
  Stop(absl::Now());
}

int Server::port() const {
  return state_->port;
}

const std::string& Server::instance_id() const {
  return state_->context.instance_id;
}

void Server::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* health = state_->server->GetHealthCheckService();
  for (const char* name : kServiceNames) health->SetServingStatus(name, serving);
}

void Server::Drain() {
  SetServing(false);
  state_->engine.Drain();
  state_->live_calls.Drain();
}

bool Server::WaitCalls(absl::Time deadline) {
  return state_->live_calls.WaitEmpty(deadline);
}

void Server::Stop(absl::Time deadline) {
  if (std::exchange(state_->stopped, true)) return;
  state_->server->Shutdown(absl::ToChronoTime(deadline));
  state_->server->Wait();
  state_->streams.Stop();
}

WriteLatency& Server::write_latency() {
  return state_->write_latency;
}

std::size_t Server::open_calls() const {
  return state_->live_calls.size();
}

}  // namespace megakernel
