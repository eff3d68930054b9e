// TLS for gRPC's server from files that are read again.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "server/tls_files.h"

namespace megakernel {

// Every handshake takes what `files` holds then; connections that stand keep theirs. TLS 1.2 and 1.3. With a client
// authority, clients without a certificate of it are refused in the handshake. Keep until the server has gone.
std::shared_ptr<grpc::ServerCredentials> NewTlsCredentials(std::shared_ptr<TlsFiles> files);

}  // namespace megakernel
