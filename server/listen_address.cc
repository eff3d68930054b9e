#include "server/listen_address.h"

#include <charconv>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace megakernel {
namespace {

constexpr std::string_view kUnixScheme = "unix:";
// What sockaddr_un holds, the terminating zero not counted.
constexpr std::size_t kMaxUnixPath = 107;

absl::Status Malformed(std::string_view text, std::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("\"", std::string(text), "\" ", std::string(why),
                                                 "; an address is HOST:PORT with a port in [0, 65535], [IPV6]:PORT or "
                                                 "unix:PATH"));
}

}  // namespace

std::string ListenAddress::Text(int bound_port) const {
  if (is_unix()) return absl::StrCat(std::string(kUnixScheme), unix_path);
  const bool brackets = host.find(':') != std::string::npos;
  return absl::StrCat(brackets ? "[" : "", host, brackets ? "]:" : ":", bound_port);
}

absl::StatusOr<ListenAddress> ParseListenAddress(std::string_view text) {
  ListenAddress address;
  if (text.starts_with(kUnixScheme)) {
    address.unix_path = text.substr(kUnixScheme.size());
    if (address.unix_path.empty()) return Malformed(text, "has no path");
    if (address.unix_path.size() > kMaxUnixPath) return Malformed(text, "has a path of more than 107 bytes");
    return address;
  }
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return Malformed(text, "has no port");
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  const char* const end = port.data() + port.size();
  const auto [last, error] = std::from_chars(port.data(), end, address.port);
  if (error != std::errc() || last != end || address.port < 0 || address.port > 65535) {
    return Malformed(text, "has no such port");
  }
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
    if (host.find(':') == std::string_view::npos) return Malformed(text, "has no IPv6 address in its brackets");
  } else if (host.find_first_of(":[]") != std::string_view::npos) {
    return Malformed(text, "is ambiguous: IPv6 addresses stand in brackets");
  }
  if (host.empty()) return Malformed(text, "has no host");
  // gRPC would decode escapes and listen on something else than what is checked here.
  if (host.find_first_of("%/ \t") != std::string_view::npos) return Malformed(text, "has a host that is no name");
  address.host = host;
  return address;
}

}  // namespace megakernel
