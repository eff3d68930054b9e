#include "server/admin_server.h"

#include <grpcpp/ext/channelz_service_plugin.h>
#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"
#include "engine/core/error.h"
#include "megakernel/v1/admin_service.grpc.pb.h"
#include "server/builder_plugins.h"
#include "server/call_access.h"
#include "server/grpc_status.h"
#include "server/grpc_time.h"
#include "server/listen_address.h"
#include "server/listen_check.h"
#include "spdlog/spdlog.h"

namespace megakernel {
namespace {

constexpr absl::Duration kStopTime = absl::Milliseconds(200);

v1::ServerState StateOf(ServerLoad::State state) {
  switch (state) {
    case ServerLoad::State::kLoading:
      return v1::SERVER_STATE_LOADING;
    case ServerLoad::State::kServing:
      return v1::SERVER_STATE_SERVING;
    case ServerLoad::State::kDraining:
      return v1::SERVER_STATE_DRAINING;
    case ServerLoad::State::kFailed:
      return v1::SERVER_STATE_FAILED;
  }
  return v1::SERVER_STATE_UNSPECIFIED;
}

void FillEngine(const Engine& engine, v1::GetLoadResponse& response) {
  const EngineStats stats = engine.Stats();
  response.set_requests_waiting(stats.requests_waiting);
  response.set_sequences_running(stats.sequences_running);
  response.set_max_sequences(engine.info().max_lanes);
  response.set_sessions(stats.sessions);
  response.set_kv_pages_total(stats.pages_total);
  response.set_kv_pages_used(stats.pages_used);
  response.set_kv_pages_cached(stats.pages_cached);
  response.set_kv_pages_free(stats.pages_free);
  response.set_page_tokens(engine.info().page_tokens);
  const std::int64_t ns = absl::ToInt64Nanoseconds(stats.heartbeat_age);
  response.mutable_heartbeat_age()->set_seconds(ns / 1'000'000'000);
  response.mutable_heartbeat_age()->set_nanos(static_cast<std::int32_t>(ns % 1'000'000'000));
}

class AdminService final : public v1::AdminService::Service {
 public:
  AdminService(const AdminSettings& settings, Server& server) : settings_(settings), server_(server) {}

  grpc::Status GetLoad(grpc::ServerContext* context, const v1::GetLoadRequest*,
                       v1::GetLoadResponse* response) override {
    if (auto status = Authorize(*context); !status.ok()) return ToGrpcStatus(status, *context);
    const ServerLoad load = server_.load();
    response->set_instance_id(server_.instance_id());
    response->set_state(StateOf(load.state));
    response->set_open_calls(load.open_calls);
    if (const Engine* const engine = server_.engine(); engine != nullptr) FillEngine(*engine, *response);
    return grpc::Status::OK;
  }

  grpc::Status Drain(grpc::ServerContext* context, const v1::DrainRequest*, v1::DrainResponse* response) override {
    if (auto status = Authorize(*context); !status.ok()) return ToGrpcStatus(status, *context);
    if (server_.engine() == nullptr) return ToGrpcStatus(CallGate::Refusal(), *context);
    spdlog::info("drain asked=\"AdminService\" open_calls={}", server_.open_calls());
    server_.Drain();
    response->set_open_calls(static_cast<std::int64_t>(server_.open_calls()));
    return grpc::Status::OK;
  }

  grpc::Status Reload(grpc::ServerContext* context, const v1::ReloadRequest*, v1::ReloadResponse* response) override {
    if (auto status = Authorize(*context); !status.ok()) return ToGrpcStatus(status, *context);
    std::vector<std::string> failed;
    for (const Reloader::Outcome& outcome : settings_.reloader->Reload()) {
      if (outcome.result.ok()) {
        response->add_reloaded(absl::StrCat(outcome.part, ": ", *outcome.result));
      } else {
        failed.push_back(absl::StrCat(outcome.part, ": ", outcome.result.status().message()));
      }
    }
    if (!failed.empty()) {
      return ToGrpcStatus(MakeError(absl::StatusCode::kFailedPrecondition, ErrorReason::kReloadFailed,
                                    absl::StrCat("unchanged are: ", absl::StrJoin(failed, "; "))),
                          *context);
    }
    if (settings_.restart_needed) {
      for (const std::string& flag : settings_.restart_needed()) response->add_restart_needed(flag);
    }
    return grpc::Status::OK;
  }

 private:
  absl::Status Authorize(const grpc::ServerContext& context) const {
    return AuthorizeCaller(context, settings_.access, Scope::kAdmin).status();
  }

  const AdminSettings settings_;
  Server& server_;
};

}  // namespace

struct AdminServer::State {
  State(const AdminSettings& settings, Server& server) : service(settings, server) {}

  AdminService service;
  ListenAddress address;
  int port = 0;
  std::unique_ptr<grpc::Server> server;
};

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(const AdminSettings& settings, Server& server) {
  MK_RETURN_IF_ERROR(CheckListen(settings.listen, /*encrypted=*/false, /*insecure_allowed=*/false));
  static const bool asked = [] {
    grpc::channelz::experimental::InitChannelzService();  // of the process, once
    return true;
  }();
  (void)asked;
  auto state = std::make_unique<State>(settings, server);
  MK_ASSIGN_OR_RETURN(state->address, ParseListenAddress(settings.listen));
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.SetOption(std::make_unique<BuilderPlugins>(/*reflection=*/true, /*channelz=*/true));
  builder.AddListeningPort(settings.listen, grpc::InsecureServerCredentials(), &state->port);
  builder.RegisterService(&state->service);
  state->server = builder.BuildAndStart();
  if (state->server == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", settings.listen, ": ", WhyNotListen(settings.listen)));
  }
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(state)));
}

AdminServer::AdminServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

AdminServer::~AdminServer() {
  state_->server->Shutdown(GrpcTimeIn(kStopTime));
  state_->server->Wait();
}

std::string AdminServer::address() const {
  return state_->address.Text(state_->port);
}

}  // namespace megakernel
