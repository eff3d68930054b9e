// What the kernel says of this process.
#pragma once

#include <cstdint>

namespace megakernel {

struct ProcessStats {
  double cpu_seconds = 0;         // user and system, all threads
  double start_time_seconds = 0;  // since 1970
  std::int64_t resident_bytes = 0;
  std::int64_t virtual_bytes = 0;
  std::int64_t threads = 0;
  std::int64_t open_fds = 0;
  std::int64_t max_fds = 0;
};

// Reads /proc; what cannot be read is 0.
ProcessStats ReadProcessStats();

}  // namespace megakernel
