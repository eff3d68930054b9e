#include "server/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "server/call_context.h"
#include "server/inference_service.h"
#include "server/listen_address.h"
#include "server/listen_check.h"
#include "server/request_conversion.h"
#include "server/session_service.h"
#include "server/stream_loop.h"
#include "server/task_pool.h"
#include "server/tls_credentials.h"

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
  State(const ServerSettings& server_settings, const Clock& server_clock,
        std::unique_ptr<grpc::ServerCompletionQueue> queue)
      : settings(server_settings),
        clock(server_clock),
        tasks(kEncodingThreads),
        streams(std::move(queue), [this] { live_calls.Tick(); }),
        inference(gate),
        sessions(gate) {}

  const ServerSettings settings;
  const Clock& clock;
  const std::string instance_id = RandomName(8);
  WriteLatency write_latency;
  LiveCalls live_calls;
  TaskPool tasks;
  StreamLoop streams;
  std::unique_ptr<CallContext> calls;  // from Serve on
  CallGate gate;
  InferenceService inference;
  SessionService sessions;
  ListenAddress address;
  std::shared_ptr<grpc::ServerCredentials> credentials;
  int port = 0;
  std::atomic<bool> draining{false};
  bool stopped = false;
  std::unique_ptr<grpc::Server> server;
};

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerSettings& settings, Engine& engine,
                                                      const Clock& clock) {
  MK_ASSIGN_OR_RETURN(std::unique_ptr<Server> server, Listen(settings, clock));
  server->Serve(engine, settings.limits);
  return server;
}

absl::StatusOr<std::unique_ptr<Server>> Server::Listen(const ServerSettings& settings, const Clock& clock) {
  MK_RETURN_IF_ERROR(CheckListen(settings.listen, settings.tls != nullptr, settings.insecure_listen));
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  Configure(settings, builder);
  auto state = std::make_unique<State>(settings, clock, builder.AddCompletionQueue());
  MK_ASSIGN_OR_RETURN(state->address, ParseListenAddress(settings.listen));
  state->credentials = settings.tls != nullptr ? NewTlsCredentials(settings.tls) : grpc::InsecureServerCredentials();
  builder.AddListeningPort(settings.listen, state->credentials, &state->port);
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
  server->SetServing(false);
  return server;
}

void Server::Serve(Engine& engine, const ServingLimits& limits) {
  State& state = *state_;
  state.calls.reset(
      new CallContext{.engine = engine,
                      .clock = state.clock,
                      .encoder = PromptEncoder(engine.model()),
                      .tasks = state.tasks,
                      .pump = state.streams,
                      .live_calls = state.live_calls,
                      .write_latency = state.write_latency,
                      .instance_id = state.instance_id,
                      .default_sampling = ServedDefaults(engine.model().config().sampling, engine.info()),
                      .write_timeout = state.settings.write_timeout,
                      .log = state.settings.log,
                      .access = state.settings.access,
                      .model_description = DescribeModel(engine.model(), engine.info(), limits, state.instance_id)});
  state.gate.Open(*state.calls);
  SetServing(true);
}

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}

Server::~Server() {
  Stop(absl::Now());
}

int Server::port() const {
  return state_->port;
}

std::string Server::address() const {
  return state_->address.Text(state_->port);
}

const std::string& Server::instance_id() const {
  return state_->instance_id;
}

void Server::SetServing(bool serving) {
  if (serving && state_->draining.load()) return;
  grpc::HealthCheckServiceInterface* health = state_->server->GetHealthCheckService();
  for (const char* name : kServiceNames) health->SetServingStatus(name, serving);
}

void Server::Fail() {
  state_->draining.store(true);
  SetServing(false);
}

void Server::EndCalls(const absl::Status& status) {
  state_->live_calls.Fail(status);
}

void Server::Drain() {
  state_->draining.store(true);
  SetServing(false);
  if (CallContext* const calls = state_->gate.calls(); calls != nullptr) calls->engine.Drain();
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
