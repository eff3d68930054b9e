// Why an address cannot be listened on; gRPC does not say.
#pragma once

#include <string>

namespace megakernel {

// Tries to listen on HOST:PORT itself and says what went wrong: "Address already in use", an unknown host.
std::string WhyNotListen(const std::string& address);

}  // namespace megakernel
