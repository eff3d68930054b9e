// Serves a page of metrics over HTTP, for Prometheus: GET /metrics, and nothing else.
//
// Its own few lines of HTTP and not prometheus-cpp's: the distributions package that as shared libraries only, which
// the programs that need nothing but glibc cannot use. One thread; clients that are slow or many cost neither memory
// nor the others their turn.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"

namespace megakernel {

class MetricsListener {
 public:
  static constexpr int kMaxConnections = 16;             // one more waits, until another ends or is too slow
  static constexpr std::size_t kMaxRequestBytes = 8192;  // more is answered with 431
  static constexpr absl::Duration kConnectionTime = absl::Seconds(5);

  // Listens on `address` (listen_address.h) and calls `page` on its own thread for each request. Unavailable when the
  // address cannot be had, InvalidArgument when it is none.
  static absl::StatusOr<std::unique_ptr<MetricsListener>> Start(const std::string& address,
                                                                std::function<std::string()> page);
  ~MetricsListener();
  MetricsListener(const MetricsListener&) = delete;
  MetricsListener& operator=(const MetricsListener&) = delete;

  // With the port that is listened on.
  const std::string& address() const { return address_; }

 private:
  struct Connection {
    int descriptor = -1;
    absl::Time deadline;
    std::string request;
    std::string answer;  // not empty: the request is complete
    std::size_t sent = 0;
  };

  MetricsListener(int listener, int wake, std::string address, std::function<std::string()> page);
  void Run();
  void Accept();
  // False when the connection is over.
  bool Advance(Connection& connection);
  std::string Answer(const std::string& request) const;

  const int listener_;
  const int wake_;
  const std::string address_;
  const std::function<std::string()> page_;
  const SteadyClock clock_;
  std::vector<Connection> connections_;  // the thread's
  std::thread thread_;
};

}  // namespace megakernel
