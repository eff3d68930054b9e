#include "tests/torture/silent_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/check.h"

namespace megakernel::torture {
namespace {

sockaddr_in Loopback(int port) {
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  where.sin_port = htons(static_cast<std::uint16_t>(port));
  return where;
}

// Moves what there is; false at the end of the connection.
bool Relay(int from, int to) {
  char buffer[16384];
  const ssize_t got = recv(from, buffer, sizeof buffer, 0);
  if (got <= 0) return false;
  for (ssize_t sent = 0; sent < got;) {
    const ssize_t n = send(to, buffer + sent, static_cast<std::size_t>(got - sent), MSG_NOSIGNAL);
    if (n <= 0) return false;
    sent += n;
  }
  return true;
}

}  // namespace

SilentProxy::SilentProxy(int target_port) : target_port_(target_port) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in where = Loopback(0);
  socklen_t size = sizeof where;
  MK_CHECK(bind(listener_, reinterpret_cast<sockaddr*>(&where), size) == 0 && listen(listener_, 16) == 0);
  MK_CHECK(getsockname(listener_, reinterpret_cast<sockaddr*>(&where), &size) == 0);
  port_ = ntohs(where.sin_port);
  thread_ = std::thread([this] { Work(); });
}

SilentProxy::~SilentProxy() {
  ending_ = true;
  thread_.join();
  for (const Pair& pair : pairs_) {
    close(pair.client);
    close(pair.server);
  }
  close(listener_);
}

void SilentProxy::Accept() {
  Pair pair;
  pair.client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  pair.server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in target = Loopback(target_port_);
  MK_CHECK(pair.client >= 0 && connect(pair.server, reinterpret_cast<const sockaddr*>(&target), sizeof target) == 0);
  pairs_.push_back(pair);
}

void SilentProxy::Work() {
  constexpr int kLookMs = 20;
  while (!ending_) {
    if (silent_) {
      poll(nullptr, 0, kLookMs);
      continue;
    }
    std::vector<pollfd> fds = {{listener_, POLLIN, 0}};
    for (const Pair& pair : pairs_) {
      fds.push_back({pair.client, POLLIN, 0});
      fds.push_back({pair.server, POLLIN, 0});
    }
    poll(fds.data(), fds.size(), kLookMs);
    if (silent_) continue;
    const std::size_t known = pairs_.size();
    if (fds[0].revents != 0) Accept();
    for (std::size_t i = 0; i < known; ++i) {
      const bool client_ended = fds[1 + 2 * i].revents != 0 && !Relay(pairs_[i].client, pairs_[i].server);
      const bool server_ended = fds[2 + 2 * i].revents != 0 && !Relay(pairs_[i].server, pairs_[i].client);
      if (!client_ended && !server_ended) continue;
      shutdown(pairs_[i].client, SHUT_RDWR);
      shutdown(pairs_[i].server, SHUT_RDWR);
    }
  }
}

}  // namespace megakernel::torture
