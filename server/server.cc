#include "server/server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "server/builder_plugins.h"
#include "server/call_context.h"
#include "server/grpc_time.h"
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
  builder.SetOption(std::make_unique<BuilderPlugins>(settings.reflection, /*channelz=*/false));
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
  CallCounts counts;
  std::atomic<bool> draining{false};
  std::atomic<bool> failed{false};
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
                      .log =
                          [&state](const RequestRecord& record) {
                            state.counts.Add(record);
                            if (state.settings.log) state.settings.log(record);
                          },
                      .access = state.settings.access,
                      .session_store = state.settings.session_store.get(),
                      .model_description = DescribeModel(engine.model(), engine.info(), limits, state.instance_id)});
  state.gate.Open(*state.calls);
  SetServing(true);
}

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}

Server::~Server() {
  Stop(absl::ZeroDuration());
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
  state_->failed.store(true);
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

bool Server::WaitCalls(absl::Duration timeout) {
  return state_->live_calls.WaitEmpty(timeout);
}

void Server::Stop(absl::Duration timeout) {
  if (std::exchange(state_->stopped, true)) return;
  state_->server->Shutdown(GrpcTimeIn(timeout));
  state_->server->Wait();
  state_->streams.Stop();
  if (state_->settings.session_store != nullptr) state_->settings.session_store->Stop();
}

WriteLatency& Server::write_latency() {
  return state_->write_latency;
}

ServerLoad Server::load() const {
  ServerLoad load{.state = ServerLoad::State::kServing, .open_calls = static_cast<std::int64_t>(open_calls())};
  if (state_->failed.load()) {
    load.state = ServerLoad::State::kFailed;
  } else if (state_->draining.load()) {
    load.state = ServerLoad::State::kDraining;
  } else if (engine() == nullptr) {
    load.state = ServerLoad::State::kLoading;
  }
  return load;
}

const Engine* Server::engine() const {
  const CallContext* const calls = state_->gate.calls();
  return calls == nullptr ? nullptr : &calls->engine;
}

const CallCounts& Server::call_counts() const {
  return state_->counts;
}

std::size_t Server::open_calls() const {
  return state_->live_calls.size();
}

}  // namespace megakernel
