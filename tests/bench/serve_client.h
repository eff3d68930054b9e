// The client of `megakernel-bench serve`: a process of its own, so that it shares the server's processors, as a client
// on the same machine does, and none of its threads, which a client never does.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>

namespace megakernel::bench {

// What a run took.
struct ClientRun {
  std::int64_t received = 0;  // tokens of all streams
  std::int64_t messages = 0;
  double seconds = 0;      // from the first call to the last end
  double cpu_seconds = 0;  // of the client, all threads
};

// The process as its parent sees it.
class ClientProcess {
 public:
  // `megakernel-bench serve-client` against 127.0.0.1:`port`. Null when it cannot start; says why on stderr.
  static std::unique_ptr<ClientProcess> Start(int port, int connections);
  // Ends the process.
  ~ClientProcess();
  ClientProcess(const ClientProcess&) = delete;
  ClientProcess& operator=(const ClientProcess&) = delete;

  // `streams` Generate calls at once, spread over the connections. Empty when one failed.
  std::optional<ClientRun> Run(int streams, int tokens);

 private:
  ClientProcess() = default;

  pid_t pid_ = -1;
  std::FILE* orders_ = nullptr;   // to the process
  std::FILE* answers_ = nullptr;  // from the process
};

}  // namespace megakernel::bench
