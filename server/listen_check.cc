#include "server/listen_check.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

namespace megakernel {

std::string WhyNotListen(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  const std::string port = colon == std::string::npos ? "0" : address.substr(colon + 1);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);

  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0) {
    return host + ": " + gai_strerror(error);
  }
  int code = 0;
  for (const addrinfo* candidate = found; candidate != nullptr && code == 0; candidate = candidate->ai_next) {
    const int fd = socket(candidate->ai_family, candidate->ai_socktype, candidate->ai_protocol);
    if (fd < 0) continue;
    if (bind(fd, candidate->ai_addr, candidate->ai_addrlen) != 0 || listen(fd, 1) != 0) code = errno;
    close(fd);
  }
  freeaddrinfo(found);
  return code != 0 ? std::system_category().message(code) : "the address was refused for a moment; try again";
}

}  // namespace megakernel
