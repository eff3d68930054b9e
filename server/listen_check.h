// Who can reach an address, whether a server may listen there, and why it could not: gRPC does not say.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace megakernel {

// Whether only this machine can reach the address (ParseListenAddress): a socket in the file system, or a host all of
// whose addresses are loopback ones. Looks names up. InvalidArgument when it is malformed, Unavailable when the name is
// unknown.
absl::StatusOr<bool> IsLocalOnly(const std::string& address);

// Refuses (FailedPrecondition) an address that other machines can reach when calls would travel unencrypted, unless
// `insecure_allowed`: prompts, answers and tokens would be everybody's. Errors of IsLocalOnly.
absl::Status CheckListen(const std::string& address, bool encrypted, bool insecure_allowed);

// Tries to listen on the address itself and says what went wrong: "Address already in use", an unknown host.
std::string WhyNotListen(const std::string& address);

}  // namespace megakernel
