// A TCP proxy to one port of this machine that can fall silent: connections stay open and nothing moves any more, as
// when the other machine has lost its power.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace megakernel::torture {

class SilentProxy {
 public:
  explicit SilentProxy(int target_port);
  ~SilentProxy();
  SilentProxy(const SilentProxy&) = delete;
  SilentProxy& operator=(const SilentProxy&) = delete;

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  // Nothing is read or written from now on.
  void FallSilent() { silent_ = true; }

 private:
  struct Pair {
    int client = -1, server = -1;
  };
  void Work();
  void Accept();

  const int target_port_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> silent_{false}, ending_{false};
  std::vector<Pair> pairs_;  // the thread's
  std::thread thread_;
};

}  // namespace megakernel::torture
