// A port of 127.0.0.1 where no server answers.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

namespace megakernel::tests {

// Holds the port, so that nobody else gets it, for as long as it lives.
class SilentSocket {
 public:
  // Listening: connections are accepted by the kernel and never answered. Not listening: they are refused.
  explicit SilentSocket(bool listening) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(where);
    if (bind(fd_, reinterpret_cast<sockaddr*>(&where), size) == 0 && (!listening || listen(fd_, 8) == 0) &&
        getsockname(fd_, reinterpret_cast<sockaddr*>(&where), &size) == 0) {
      address_ = "127.0.0.1:" + std::to_string(ntohs(where.sin_port));
    }
  }
  ~SilentSocket() { close(fd_); }
  SilentSocket(const SilentSocket&) = delete;
  SilentSocket& operator=(const SilentSocket&) = delete;

  // "127.0.0.1:PORT"; empty if there was no port to have.
  const std::string& address() const { return address_; }

 private:
  const int fd_;
  std::string address_;
};

}  // namespace megakernel::tests
