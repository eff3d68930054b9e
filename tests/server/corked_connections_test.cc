// Connections that hold small messages back while they are corked.
#include "server/corked_connections.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

namespace megakernel {
namespace {

// A connected pair over the loopback of `family`.
class TcpPair {
 public:
  explicit TcpPair(int family) {
    sockaddr_storage storage{};
    socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    storage.ss_family = static_cast<sa_family_t>(family);
    if (family == AF_INET) {
      reinterpret_cast<sockaddr_in&>(storage).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
      reinterpret_cast<sockaddr_in6&>(storage).sin6_addr = in6addr_loopback;
    }
    auto* const address = reinterpret_cast<sockaddr*>(&storage);
    const int listener = socket(family, SOCK_STREAM, 0);
    client_ = socket(family, SOCK_STREAM, 0);
    if (bind(listener, address, size) == 0 && listen(listener, 1) == 0 && getsockname(listener, address, &size) == 0 &&
        connect(client_, address, size) == 0) {
      server_ = accept(listener, nullptr, nullptr);
    }
    close(listener);
    const int on = 1;
    setsockopt(server_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));  // as gRPC does
    const timeval limit = {.tv_sec = 10, .tv_usec = 0};
    setsockopt(client_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  }
  ~TcpPair() {
    close(client_);
    close(server_);
  }

  bool ok() const { return server_ >= 0; }
  int server() const { return server_; }
  // The client as the server's gRPC names it.
  std::string peer() const {
    sockaddr_storage storage{};
    socklen_t size = sizeof(storage);
    getsockname(client_, reinterpret_cast<sockaddr*>(&storage), &size);
    const int port = ntohs(reinterpret_cast<const sockaddr_in&>(storage).sin_port);  // at the same place in both
    return (storage.ss_family == AF_INET ? "ipv4:127.0.0.1:" : "ipv6:%5B::1%5D:") + std::to_string(port);
  }
  void Write(const std::string& text) { ASSERT_EQ(write(server_, text.data(), text.size()), ssize_t(text.size())); }
  // What one read gets.
  std::string Read(int flags = 0) {
    char buffer[64];
    const ssize_t size = recv(client_, buffer, sizeof(buffer), flags);
    return size > 0 ? std::string(buffer, static_cast<std::size_t>(size)) : "";
  }

 private:
  int client_ = -1;
  int server_ = -1;
};

TEST(CorkedConnections, FindsTheSocketOfAPeer) {
  TcpPair pair(AF_INET);
  ASSERT_TRUE(pair.ok());
  EXPECT_EQ(FindConnection(pair.peer()), pair.server());
  EXPECT_EQ(FindConnection("ipv4:127.0.0.1:1"), -1);
  EXPECT_EQ(FindConnection("unix:/tmp/socket"), -1);
  EXPECT_EQ(FindConnection(""), -1);
  TcpPair version6(AF_INET6);
  if (!version6.ok()) GTEST_SKIP() << "no IPv6 loopback here";
  EXPECT_EQ(FindConnection(version6.peer()), version6.server());
}

TEST(CorkedConnections, SeveralStreamsAreSentInOnePiece) {
  TcpPair pair(AF_INET);
  ASSERT_TRUE(pair.ok());
  CorkedConnections connections;
  connections.Join(pair.peer());
  connections.Join(pair.peer());
  connections.Cork();
  pair.Write("to");
  pair.Write("ken");
  EXPECT_EQ(pair.Read(MSG_DONTWAIT), "");
  connections.Uncork();
  EXPECT_EQ(pair.Read(), "token");
}

TEST(CorkedConnections, AConnectionWithOneStreamIsLetBe) {
  TcpPair pair(AF_INET);
  ASSERT_TRUE(pair.ok());
  CorkedConnections connections;
  connections.Join(pair.peer());
  connections.Join(pair.peer());
  connections.Leave(pair.peer());
  connections.Cork();
  pair.Write("token");
  EXPECT_EQ(pair.Read(), "token");
  connections.Leave(pair.peer());
  connections.Leave(pair.peer());  // one too many
}

}  // namespace
}  // namespace megakernel
