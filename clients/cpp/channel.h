// The connection behind a Client. Private to clients/cpp.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "clients/cpp/client.h"

namespace megakernel::client {

// Does not connect yet. FAILED_PRECONDITION when the token would travel unencrypted to another machine and
// options.allow_unencrypted_token is false.
Result<std::shared_ptr<grpc::Channel>> MakeChannel(const std::string& target, const ConnectOptions& options);

}  // namespace megakernel::client
