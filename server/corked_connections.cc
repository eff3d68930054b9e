#include "server/corked_connections.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstdlib>
#include <memory>

#include "absl/strings/str_cat.h"

namespace megakernel {
namespace {

// As gRPC writes it; empty when `fd` is not a connected IP socket. An IPv4 peer of an IPv6 socket is an IPv4 peer.
std::string PeerOf(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return "";
  char text[INET6_ADDRSTRLEN] = {};
  if (storage.ss_family == AF_INET) {
    const auto& address = reinterpret_cast<const sockaddr_in&>(storage);
    inet_ntop(AF_INET, &address.sin_addr, text, sizeof(text));
    return absl::StrCat("ipv4:", text, ":", ntohs(address.sin_port));
  }
  if (storage.ss_family != AF_INET6) return "";
  const auto& address = reinterpret_cast<const sockaddr_in6&>(storage);
  if (IN6_IS_ADDR_V4MAPPED(&address.sin6_addr)) {
    inet_ntop(AF_INET, &address.sin6_addr.s6_addr[12], text, sizeof(text));
    return absl::StrCat("ipv4:", text, ":", ntohs(address.sin6_port));
  }
  inet_ntop(AF_INET6, &address.sin6_addr, text, sizeof(text));
  return absl::StrCat("ipv6:%5B", text, "%5D:", ntohs(address.sin6_port));
}

}  // namespace

int FindConnection(const std::string& peer) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir("/proc/self/fd"), closedir);
  if (folder == nullptr || peer.empty()) return -1;
  while (const dirent* entry = readdir(folder.get())) {
    const int fd = std::atoi(entry->d_name);
    if (fd > 2 && PeerOf(fd) == peer) return fd;
  }
  return -1;
}

void CorkedConnections::Join(const std::string& peer) {
  Connection& connection = connections_[peer];
  if (++connection.streams != 2) return;
  connection.socket = FindConnection(peer);
  ListSockets();
}

void CorkedConnections::Leave(const std::string& peer) {
  const auto it = connections_.find(peer);
  if (it == connections_.end()) return;
  if (--it->second.streams == 0) connections_.erase(it);
  ListSockets();
}

void CorkedConnections::ListSockets() {
  sockets_.clear();
  for (const auto& [peer, connection] : connections_) {
    if (connection.streams > 1 && connection.socket >= 0) sockets_.push_back(connection.socket);
  }
}

void CorkedConnections::SetAll(int corked) {
  for (const int socket : sockets_) setsockopt(socket, IPPROTO_TCP, TCP_CORK, &corked, sizeof(corked));
}

}  // namespace megakernel
