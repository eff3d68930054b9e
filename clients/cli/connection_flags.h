// Flags that say how a command connects: encryption and token.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "clients/cli/flags.h"
#include "clients/cpp/client.h"

namespace megakernel::cli {

// Files as they were named. Plain data.
struct ConnectionFlags {
  bool tls = false;
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  std::string tls_server_name;
  std::string token_file;
  bool allow_unencrypted_token = false;
};

// `target` must outlive `flags`.
void AddConnectionFlags(FlagSet* flags, ConnectionFlags* target);

// Reads the files, and the token of $MEGAKERNEL_TOKEN when no file is named. InvalidArgument names flag and file; never
// quotes a key or a token.
absl::Status ReadConnectionFlags(const ConnectionFlags& flags, client::ConnectOptions* options);

}  // namespace megakernel::cli
