#include "clients/cpp/channel.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <grpcpp/support/client_interceptor.h>

#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace megakernel::client {
namespace {

// Answers to a million-token prompt with logprobs stay below it.
constexpr int kMaxMessageBytes = 256 << 20;
constexpr int kFirstReconnectMs = 100;
constexpr int kLastReconnectMs = 1000;

// Adds the token to every call of a channel, also to those of gRPC's own services.
class TokenInterceptor final : public grpc::experimental::Interceptor {
 public:
  explicit TokenInterceptor(const std::string& authorization) : authorization_(authorization) {}
  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(grpc::experimental::InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->emplace("authorization", authorization_);
    }
    methods->Proceed();
  }

 private:
  const std::string& authorization_;
};

class TokenInterceptorFactory final : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit TokenInterceptorFactory(const std::string& token) : authorization_(absl::StrCat("Bearer ", token)) {}
  grpc::experimental::Interceptor* CreateClientInterceptor(grpc::experimental::ClientRpcInfo*) override {
    return new TokenInterceptor(authorization_);
  }

 private:
  const std::string authorization_;
};

// By its spelling: a name that only resolves to this machine does not count.
bool IsThisMachine(const std::string& target) {
  for (const char* prefix : {"unix:", "localhost:", "[::1]:"}) {
    if (absl::StartsWith(target, prefix)) return true;
  }
  const std::string host = target.substr(0, target.rfind(':'));  // "127.example.com" is somebody else's name
  return absl::StartsWith(host, "127.") && host.find_first_not_of("0123456789.") == std::string::npos;
}

std::shared_ptr<grpc::ChannelCredentials> Credentials(const ConnectOptions& options) {
  if (!options.tls.has_value()) return grpc::InsecureChannelCredentials();
  return grpc::SslCredentials({.pem_root_certs = options.tls->authorities,
                               .pem_private_key = options.tls->key,
                               .pem_cert_chain = options.tls->certificate});
}

}  // namespace

Result<std::shared_ptr<grpc::Channel>> MakeChannel(const std::string& target, const ConnectOptions& options) {
  if (!options.token.empty() && !options.tls.has_value() && !options.allow_unencrypted_token &&
      !IsThisMachine(target)) {
    Error error = MakeError(absl::StatusCode::kFailedPrecondition,
                            absl::StrCat("the token would travel unencrypted to ", target));
    error.hint = "Connect with TLS, or say that the network is trusted (--allow-unencrypted-token).";
    return error;
  }
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);          // a local server must not depend on the environment
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kFirstReconnectMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kLastReconnectMs);
  if (options.tls.has_value() && !options.tls->server_name.empty()) {
    arguments.SetSslTargetNameOverride(options.tls->server_name);
  }
  std::vector<std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface>> interceptors;
  if (!options.token.empty()) interceptors.push_back(std::make_unique<TokenInterceptorFactory>(options.token));
  return grpc::experimental::CreateCustomChannelWithInterceptors(target, Credentials(options), arguments,
                                                                 std::move(interceptors));
}

}  // namespace megakernel::client
