// When a running kernel counts as lost: it named a fault, or its heartbeat rests too long.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/layout/mailbox.h"

namespace megakernel::host {

// What MailboxControl says at one moment.
struct HeartSample {
  bool running = false;
  std::int64_t now_ms = 0;  // any clock that only rises
  std::uint64_t heartbeat = 0;
  std::uint64_t steps = 0;
  std::uint64_t fault = 0;
  std::uint64_t fault_detail = 0;
};

HeartSample SampleOf(const layout::MailboxControl& control, bool running, std::int64_t now_ms);

// A fault word in words: what was waited for, where. REQUIRES: fault != 0.
std::string DescribeFault(std::uint64_t fault, std::uint64_t detail);

// Longest time without a heartbeat. A step takes a few milliseconds at most; the kernel looks at its mailbox every
// microsecond when it has nothing to do.
inline constexpr std::int64_t kHeartbeatLimitMs = 1500;

class Watchdog {
 public:
  // Empty while all is well; then what happened. Look several times a second.
  std::string Look(const HeartSample& sample);

 private:
  bool watching_ = false;
  std::uint64_t heartbeat_ = 0;
  std::int64_t moved_ms_ = 0;
};

}  // namespace megakernel::host
