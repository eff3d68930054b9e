#include "server/tls_credentials.h"

#include <grpc/grpc_security.h>

#include <string>
#include <utility>
#include <vector>

#include "engine/base/check.h"

namespace megakernel {
namespace {

// What one listening port was given last.
struct PortIdentity {
  std::shared_ptr<TlsFiles> files;
  std::shared_ptr<const TlsIdentity> given;  // guarded by gRPC, which asks for one handshake at a time
};

// gRPC asks before each handshake. Its own watcher of files would take a certificate and a key that were read while one
// of them was being replaced, and show nothing until it reads again.
grpc_ssl_certificate_config_reload_status Fetch(void* data, grpc_ssl_server_certificate_config** config) {
  PortIdentity& port = *static_cast<PortIdentity*>(data);
  std::shared_ptr<const TlsIdentity> identity = port.files->identity();
  if (identity == port.given) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const grpc_ssl_pem_key_cert_pair pair = {identity->key.c_str(), identity->certificate.c_str()};
  // gRPC 1.51 wants some authority here also when it asks clients for nothing; it is not used then.
  const std::string& authority = identity->client_ca.empty() ? identity->certificate : identity->client_ca;
  *config = grpc_ssl_server_certificate_config_create(authority.c_str(), &pair, 1);
  port.given = std::move(identity);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

class TlsCredentials final : public grpc::ServerCredentials {
 public:
  explicit TlsCredentials(std::shared_ptr<TlsFiles> files) : files_(std::move(files)) {}

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {
    MK_CHECK(false);  // tokens are looked at by the calls themselves, encrypted or not
  }

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    PortIdentity& port = *ports_.emplace_back(std::make_unique<PortIdentity>(PortIdentity{files_, nullptr}));
    const auto client = files_->mutual() ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                         : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    grpc_server_credentials* const credentials = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(client, Fetch, &port));
    const int bound = grpc_server_add_http2_port(server, address.c_str(), credentials);
    grpc_server_credentials_release(credentials);
    return bound;
  }

  const std::shared_ptr<TlsFiles> files_;
  std::vector<std::unique_ptr<PortIdentity>> ports_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> NewTlsCredentials(std::shared_ptr<TlsFiles> files) {
  return std::make_shared<TlsCredentials>(std::move(files));
}

}  // namespace megakernel
