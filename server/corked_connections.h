// Connections whose small messages leave together.
//
// gRPC hands every stream's message to the socket on its own, and a packet for each costs sender and receiver more than
// the message. While a connection is corked the kernel collects; uncorked, it sends at once. Linux, TCP.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

namespace megakernel {

// The socket of this process that is connected to `peer`, as gRPC names it ("ipv4:127.0.0.1:50321",
// "ipv6:%5B::1%5D:50321"); -1 when there is none, or it is no TCP connection.
int FindConnection(const std::string& peer);

// One thread only.
class CorkedConnections {
 public:
  // A stream of the connection to `peer` begins and ends. Only connections with several streams are corked.
  void Join(const std::string& peer);
  void Leave(const std::string& peer);

  // A socket that was closed meanwhile is let be; if its number is another's by now, that one is corked and uncorked,
  // which delays and does no more.
  void Cork() { SetAll(1); }
  void Uncork() { SetAll(0); }

 private:
  struct Connection {
    int streams = 0;
    int socket = -1;
  };

  void SetAll(int corked);
  void ListSockets();

  std::unordered_map<std::string, Connection> connections_;
  std::vector<int> sockets_;  // of those with several streams
};

}  // namespace megakernel
