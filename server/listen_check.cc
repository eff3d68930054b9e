#include "server/listen_check.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "server/listen_address.h"

namespace megakernel {
namespace {

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using AddressList = std::unique_ptr<addrinfo, FreeAddresses>;

// As the system resolves it, which is what gRPC asks too.
absl::StatusOr<AddressList> Resolve(const ListenAddress& address) {
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const std::string port = absl::StrCat(address.port);
  if (const int error = getaddrinfo(address.host.c_str(), port.c_str(), &hints, &found); error != 0) {
    return absl::UnavailableError(absl::StrCat(address.host, ": ", gai_strerror(error)));
  }
  return AddressList(found);
}

bool IsLoopback(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, &address, sizeof(v4));
    return ntohl(v4.sin_addr.s_addr) >> 24 == 127;
  }
  if (address.sa_family != AF_INET6) return false;
  sockaddr_in6 v6;
  std::memcpy(&v6, &address, sizeof(v6));
  const bool mapped = IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) && v6.sin6_addr.s6_addr[12] == 127;
  return mapped || IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

// 0, or the error of trying to listen there.
int TryListen(int family, const sockaddr* address, socklen_t size) {
  const int fd = socket(family, SOCK_STREAM, 0);
  if (fd < 0) return 0;  // this machine has no such addresses; another one of the list may do
  const int code = bind(fd, address, size) != 0 || listen(fd, 1) != 0 ? errno : 0;
  close(fd);
  return code;
}

int TryUnix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int code = TryListen(AF_UNIX, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  if (code == 0) unlink(path.c_str());  // ours, from the attempt
  return code;
}

}  // namespace

absl::StatusOr<bool> IsLocalOnly(const std::string& text) {
  MK_ASSIGN_OR_RETURN(const ListenAddress address, ParseListenAddress(text));
  if (address.is_unix()) return true;
  MK_ASSIGN_OR_RETURN(const AddressList found, Resolve(address));
  for (const addrinfo* candidate = found.get(); candidate != nullptr; candidate = candidate->ai_next) {
    if (!IsLoopback(*candidate->ai_addr)) return false;
  }
  return true;
}

absl::Status CheckListen(const std::string& address, bool encrypted, bool insecure_allowed) {
  MK_ASSIGN_OR_RETURN(const bool local, IsLocalOnly(address));
  if (local || encrypted || insecure_allowed) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(address,
                   " can be reached from other machines, and without encryption everybody on the way reads "
                   "prompts, answers and tokens: give --tls-cert and --tls-key, or --insecure-listen if the "
                   "network is trusted or a proxy encrypts"));
}

std::string WhyNotListen(const std::string& text) {
  const absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
  if (!address.ok()) return std::string(address.status().message());
  int code = 0;
  if (address->is_unix()) {
    code = TryUnix(address->unix_path);
  } else {
    const absl::StatusOr<AddressList> found = Resolve(*address);
    if (!found.ok()) return std::string(found.status().message());
    for (const addrinfo* candidate = found->get(); candidate != nullptr && code == 0; candidate = candidate->ai_next) {
      code = TryListen(candidate->ai_family, candidate->ai_addr, candidate->ai_addrlen);
    }
  }
  return code != 0 ? std::system_category().message(code) : "the address was refused for a moment; try again";
}

}  // namespace megakernel
