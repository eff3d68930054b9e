// An address to listen on, as --listen spells it: HOST:PORT, [IPV6]:PORT or unix:PATH.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace megakernel {

struct ListenAddress {
  std::string host;       // name or number, without brackets; empty for a socket in the file system
  int port = 0;           // 0: any that is free
  std::string unix_path;  // of a socket in the file system; else empty

  bool is_unix() const { return !unix_path.empty(); }
  // As ParseListenAddress reads it, with `bound_port` in the place of a 0.
  std::string Text(int bound_port) const;
};

// InvalidArgument says what an address looks like. Names are not looked up.
absl::StatusOr<ListenAddress> ParseListenAddress(std::string_view text);

}  // namespace megakernel
