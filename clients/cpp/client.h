// A connection to a megakernel server: generation, the token loop, sessions, tokenizer, model, health.
//
//   auto client = Client::Connect("127.0.0.1:50051");
//   if (!client.ok()) { std::cerr << Describe(client.error()) << "\n" << client.error().hint << "\n"; return 1; }
//   v1::GenerateRequest request;
//   request.set_text("Once upon a time");
//   Error error = (*client)->Generate(request, [](const v1::GenerateResponse& response) {
//     std::cout << response.delta().text() << std::flush;
//     return true;
//   });
//
// Requests and answers are the messages of megakernel.v1; their meaning, limits and defaults stand in proto/.
// Calls block the calling thread. Nothing is retried and nothing is kept between calls.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "clients/cpp/call_options.h"
#include "clients/cpp/decode_stream.h"
#include "clients/cpp/error.h"
#include "megakernel/v1/inference_service.pb.h"
#include "megakernel/v1/session_service.pb.h"

namespace megakernel::client {

// An encrypted connection. Contents of PEM files. Plain data.
struct TlsOptions {
  std::string authorities;  // who may vouch for the server; empty: whom this machine trusts
  std::string certificate;  // this client's, where the server asks for one; with its key
  std::string key;
  std::string server_name;  // expected in the server's certificate; empty: the host of the target
};

// Plain data.
struct ConnectOptions {
  // Default: unencrypted.
  std::optional<TlsOptions> tls;
  // Sent with every call as a bearer token. Default: none.
  std::string token;
  // Whether the token may travel unencrypted to another machine.
  bool allow_unencrypted_token = false;
  // How long Connect waits for a server that does not answer. A refused connection fails at once. Default: 5 s.
  absl::Duration timeout = absl::Seconds(5);
  // With true, a refused connection is tried again until `timeout`: for a server that is just starting. Default: false.
  bool wait_for_server = false;
};

// Of a service, as grpc.health.v1 reports it.
enum class Health { kUnknown, kServing, kNotServing, kServiceUnknown };

// "SERVING" and so on, as the health protocol spells them.
const char* HealthName(Health health);

// Thread-safe: calls may run at the same time from any number of threads. Each Client has a TCP connection of its own.
class Client {
 public:
  // Sees each message of a Generate stream as it comes, on the calling thread. Returning false cancels the call.
  using OnResponse = absl::FunctionRef<bool(const v1::GenerateResponse&)>;

  // Connects to `target`, "HOST:PORT" or "unix:PATH". UNAVAILABLE if nobody listens there, or the two do not agree on
  // encryption or certificates; DEADLINE_EXCEEDED if nobody answers in time; FAILED_PRECONDITION if the token may not
  // travel.
  static Result<std::unique_ptr<Client>> Connect(const std::string& target, const ConnectOptions& options = {});
  // REQUIRES: no call runs and no DecodeStream is left.
  ~Client();

  // Runs one generation to its end. Success means that every sequence finished. A generation that was cut, by the
  // deadline, the token, the callback or the server, is an error, and its output so far was seen by `on_response`.
  Error Generate(const v1::GenerateRequest& request, OnResponse on_response, const CallOptions& options = {});

  // Starts a token loop; its first operation must be Open. The stream must not outlive this client.
  std::unique_ptr<DecodeStream> Decode(const CallOptions& options = {});

  Result<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request, const CallOptions& options = {});
  Result<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& request, const CallOptions& options = {});
  Result<v1::GetModelResponse> GetModel(const CallOptions& options = {});

  Result<v1::Session> CreateSession(const v1::CreateSessionRequest& request, const CallOptions& options = {});
  Result<v1::GetSessionResponse> GetSession(const v1::GetSessionRequest& request, const CallOptions& options = {});
  Result<v1::ListSessionsResponse> ListSessions(const v1::ListSessionsRequest& request,
                                                const CallOptions& options = {});
  Result<v1::Session> ForkSession(const v1::ForkSessionRequest& request, const CallOptions& options = {});
  Result<v1::Session> RollbackSession(const v1::RollbackSessionRequest& request, const CallOptions& options = {});
  Error DeleteSession(const std::string& session_id, const CallOptions& options = {});
  Result<v1::SavedSession> SaveSession(const v1::SaveSessionRequest& request, const CallOptions& options = {});
  Result<v1::Session> RestoreSession(const v1::RestoreSessionRequest& request, const CallOptions& options = {});
  Result<v1::ListSavedSessionsResponse> ListSavedSessions(const CallOptions& options = {});
  Error DeleteSavedSession(const std::string& name, const CallOptions& options = {});

  // One session once no operation runs on it: what to call after a cancelled Generate, whose last step may still be
  // on its way. DEADLINE_EXCEEDED if it is still busy after `timeout`.
  Result<v1::Session> AwaitIdleSession(const std::string& session_id, absl::Duration timeout);

  // Asks once how `service` is; "" is the server as a whole. A service that the server does not know: kServiceUnknown.
  Result<Health> CheckHealth(const std::string& service = "", const CallOptions& options = {});
  // Follows the health of `service`: `on_change` sees its state now and each later one; returning false ends the call
  // with success.
  Error WatchHealth(const std::string& service, absl::FunctionRef<bool(Health)> on_change,
                    const CallOptions& options = {});
  // Returns success as soon as the server serves; DEADLINE_EXCEEDED if it does not within `timeout`.
  Error WaitUntilServing(absl::Duration timeout);

 private:
  friend class CallLoop;
  struct Stubs;
  explicit Client(std::unique_ptr<Stubs> stubs);

  const std::unique_ptr<Stubs> stubs_;
};

}  // namespace megakernel::client
