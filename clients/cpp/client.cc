#include "clients/cpp/client.h"

#include <grpcpp/channel.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "clients/cpp/call_scope.h"
#include "clients/cpp/channel.h"
#include "clients/cpp/client_stubs.h"
#include "clients/cpp/decode_call.h"

namespace megakernel::client {
namespace {

namespace health = ::grpc::health::v1;

// Between two looks at a session or a server that is not ready yet.
constexpr absl::Duration kPollInterval = absl::Milliseconds(10);
constexpr absl::Duration kReconnectInterval = absl::Milliseconds(100);

enum class Reach { kReady, kRefused, kTimeout };

// Waits until the channel is connected, the first attempt has failed (unless told to go on), or the time is over.
Reach AwaitConnection(grpc::Channel* channel, const ConnectOptions& options, absl::Time deadline) {
  grpc_connectivity_state state = channel->GetState(/*try_to_connect=*/true);
  while (state != GRPC_CHANNEL_READY) {
    if (state == GRPC_CHANNEL_SHUTDOWN) return Reach::kRefused;
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE && !options.wait_for_server) return Reach::kRefused;
    if (!channel->WaitForStateChange(state, absl::ToChronoTime(deadline))) return Reach::kTimeout;
    state = channel->GetState(/*try_to_connect=*/true);
  }
  return Reach::kReady;
}

Health ToHealth(health::HealthCheckResponse::ServingStatus status) {
  switch (status) {
    case health::HealthCheckResponse::SERVING:
      return Health::kServing;
    case health::HealthCheckResponse::NOT_SERVING:
      return Health::kNotServing;
    case health::HealthCheckResponse::SERVICE_UNKNOWN:
      return Health::kServiceUnknown;
    default:
      return Health::kUnknown;
  }
}

}  // namespace

const char* HealthName(Health health) {
  switch (health) {
    case Health::kServing:
      return "SERVING";
    case Health::kNotServing:
      return "NOT_SERVING";
    case Health::kServiceUnknown:
      return "SERVICE_UNKNOWN";
    case Health::kUnknown:
      break;
  }
  return "UNKNOWN";
}

Client::Client(std::unique_ptr<Stubs> stubs) : stubs_(std::move(stubs)) {}
Client::~Client() = default;

Result<std::unique_ptr<Client>> Client::Connect(const std::string& target, const ConnectOptions& options) {
  if (target.empty()) return MakeError(absl::StatusCode::kInvalidArgument, "the server's address is empty");
  const absl::Time deadline = absl::Now() + options.timeout;
  Result<std::shared_ptr<grpc::Channel>> made = MakeChannel(target, options);
  if (!made.ok()) return made.error();
  const std::shared_ptr<grpc::Channel> channel = std::move(made).value();
  const Reach reach = AwaitConnection(channel.get(), options, deadline);
  std::unique_ptr<Client> client(new Client(std::make_unique<Stubs>(channel)));
  if (reach == Reach::kReady) return client;
  if (reach == Reach::kTimeout && !options.wait_for_server) {
    Error error =
        MakeError(absl::StatusCode::kDeadlineExceeded,
                  absl::StrCat("nothing at ", target, " answered within ", absl::FormatDuration(options.timeout)));
    error.hint = "Check the address; something may listen there that is not a gRPC server.";
    return error;
  }
  // A call on a channel that cannot connect fails at once and says why.
  CallOptions quick;
  quick.timeout = absl::Seconds(1);
  Result<Health> asked = client->CheckHealth("", quick);
  if (asked.ok()) return client;
  const std::string& why = asked.error().message;
  return MakeError(absl::StatusCode::kUnavailable, absl::StrCat("cannot connect to ", target, ": ", why));
}

Error Client::Generate(const v1::GenerateRequest& request, OnResponse on_response, const CallOptions& options) {
  CallScope scope(options);
  const auto reader = stubs_->inference->Generate(scope.context(), request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    if (on_response(response)) continue;
    scope.context()->TryCancel();
    while (reader->Read(&response)) {
    }
  }
  return FromStatus(reader->Finish());
}

std::unique_ptr<DecodeStream> Client::Decode(const CallOptions& options) {
  return std::unique_ptr<DecodeStream>(
      new DecodeStream(std::make_unique<DecodeStream::Call>(stubs_->inference.get(), options)));
}

Result<v1::TokenizeResponse> Client::Tokenize(const v1::TokenizeRequest& request, const CallOptions& options) {
  return Stubs::Get(stubs_->inference.get(), &v1::InferenceService::Stub::Tokenize, request, options);
}

Result<v1::DetokenizeResponse> Client::Detokenize(const v1::DetokenizeRequest& request, const CallOptions& options) {
  return Stubs::Get(stubs_->inference.get(), &v1::InferenceService::Stub::Detokenize, request, options);
}

Result<v1::GetModelResponse> Client::GetModel(const CallOptions& options) {
  return Stubs::Get(stubs_->inference.get(), &v1::InferenceService::Stub::GetModel, v1::GetModelRequest(), options);
}

Result<v1::Session> Client::CreateSession(const v1::CreateSessionRequest& request, const CallOptions& options) {
  return Stubs::GetSession(stubs_->sessions.get(), &v1::SessionService::Stub::CreateSession, request, options);
}

Result<v1::GetSessionResponse> Client::GetSession(const v1::GetSessionRequest& request, const CallOptions& options) {
  return Stubs::Get(stubs_->sessions.get(), &v1::SessionService::Stub::GetSession, request, options);
}

Result<v1::ListSessionsResponse> Client::ListSessions(const v1::ListSessionsRequest& request,
                                                      const CallOptions& options) {
  return Stubs::Get(stubs_->sessions.get(), &v1::SessionService::Stub::ListSessions, request, options);
}

Result<v1::Session> Client::ForkSession(const v1::ForkSessionRequest& request, const CallOptions& options) {
  return Stubs::GetSession(stubs_->sessions.get(), &v1::SessionService::Stub::ForkSession, request, options);
}

Result<v1::Session> Client::RollbackSession(const v1::RollbackSessionRequest& request, const CallOptions& options) {
  return Stubs::GetSession(stubs_->sessions.get(), &v1::SessionService::Stub::RollbackSession, request, options);
}

Error Client::DeleteSession(const std::string& session_id, const CallOptions& options) {
  v1::DeleteSessionRequest request;
  request.set_session_id(session_id);
  v1::DeleteSessionResponse response;
  return Stubs::Call(stubs_->sessions.get(), &v1::SessionService::Stub::DeleteSession, request, &response, options);
}

Result<v1::SavedSession> Client::SaveSession(const v1::SaveSessionRequest& request, const CallOptions& options) {
  v1::SaveSessionResponse response;
  Error error =
      Stubs::Call(stubs_->sessions.get(), &v1::SessionService::Stub::SaveSession, request, &response, options);
  if (!error.ok()) return error;
  return response.saved_session();
}

Result<v1::Session> Client::RestoreSession(const v1::RestoreSessionRequest& request, const CallOptions& options) {
  return Stubs::GetSession<v1::RestoreSessionResponse>(stubs_->sessions.get(),
                                                       &v1::SessionService::Stub::RestoreSession, request, options);
}

Result<v1::ListSavedSessionsResponse> Client::ListSavedSessions(const CallOptions& options) {
  return Stubs::Get<v1::ListSavedSessionsResponse>(stubs_->sessions.get(), &v1::SessionService::Stub::ListSavedSessions,
                                                   v1::ListSavedSessionsRequest(), options);
}

Error Client::DeleteSavedSession(const std::string& name, const CallOptions& options) {
  v1::DeleteSavedSessionRequest request;
  request.set_name(name);
  v1::DeleteSavedSessionResponse response;
  return Stubs::Call(stubs_->sessions.get(), &v1::SessionService::Stub::DeleteSavedSession, request, &response,
                     options);
}

Result<v1::Session> Client::AwaitIdleSession(const std::string& session_id, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  v1::GetSessionRequest request;
  request.set_session_id(session_id);
  while (true) {
    CallOptions options;
    options.timeout = deadline - absl::Now();
    Result<v1::GetSessionResponse> response = GetSession(request, options);
    if (!response.ok()) return response.error();
    if (!response->session().busy()) return response->session();
    absl::SleepFor(kPollInterval);
  }
}

Result<Health> Client::CheckHealth(const std::string& service, const CallOptions& options) {
  health::HealthCheckRequest request;
  request.set_service(service);
  health::HealthCheckResponse response;
  const Error error = Stubs::Call(stubs_->health.get(), &health::Health::Stub::Check, request, &response, options);
  if (error.code == absl::StatusCode::kNotFound) return Health::kServiceUnknown;
  if (!error.ok()) return error;
  return ToHealth(response.status());
}

Error Client::WatchHealth(const std::string& service, absl::FunctionRef<bool(Health)> on_change,
                          const CallOptions& options) {
  health::HealthCheckRequest request;
  request.set_service(service);
  CallScope scope(options);
  const auto reader = stubs_->health->Watch(scope.context(), request);
  health::HealthCheckResponse response;
  bool ended_by_caller = false;
  while (reader->Read(&response)) {
    if (ended_by_caller || on_change(ToHealth(response.status()))) continue;
    ended_by_caller = true;
    scope.context()->TryCancel();
  }
  const Error error = FromStatus(reader->Finish());
  return ended_by_caller ? Error() : error;
}

Error Client::WaitUntilServing(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (true) {
    CallOptions options;
    options.timeout = deadline - absl::Now();
    bool serving = false;
    const Error error = WatchHealth(
        "",
        [&serving](Health health) {
          serving = health == Health::kServing;
          return !serving;
        },
        options);
    if (serving) return Error();
    if (absl::Now() >= deadline) {
      return MakeError(absl::StatusCode::kDeadlineExceeded,
                       absl::StrCat("the server did not serve within ", absl::FormatDuration(timeout)));
    }
    if (error.code != absl::StatusCode::kUnavailable) return error;
    absl::SleepFor(kReconnectInterval);
  }
}

}  // namespace megakernel::client
