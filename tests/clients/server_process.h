// A real megakernel-server process on a free port, for tests.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace megakernel::tests {

// Needs MEGAKERNEL_BIN, the folder with the programs, in the environment. Not thread-safe.
class ServerProcess {
 public:
  // Starts it with `flags` and waits until it listens; address() is empty if it does not, and log() says why.
  explicit ServerProcess(const std::vector<std::string>& flags);
  // Kills it if it still runs.
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  const std::string& address() const { return address_; }
  // What it has logged so far.
  std::string log() const;
  // Ends it as an operator would. Returns the exit status, -1 if it had to be killed.
  int Stop();

 private:
  // True once the process has ended, with its status in exit_status_; waits for at most `seconds`.
  bool AwaitEnd(int seconds);

  pid_t pid_ = -1;
  int log_fd_ = -1;
  int exit_status_ = -1;
  std::string address_;
};

}  // namespace megakernel::tests
