// For how long threads of this process wanted to run and had no processor.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "absl/time/time.h"

namespace megakernel {

// Tells a machine that is too busy from a thread that does not move. Not thread-safe.
// Source: /proc/PID/task/TID/schedstat, second number (Linux, sched-stats.rst); without it, nothing is known.
class RunDelay {
 public:
  // The longest wait of one thread since the last Look; zero after Forget, and where the kernel does not say.
  absl::Duration Look();
  void Forget() { waited_ns_.clear(); }

 private:
  std::unordered_map<std::uint64_t, std::uint64_t> waited_ns_;  // by thread, as of the last Look
};

}  // namespace megakernel
