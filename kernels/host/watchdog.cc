#include "kernels/host/watchdog.h"

#include <atomic>

namespace megakernel::host {
namespace {

std::uint64_t Load(const std::uint64_t& word, std::memory_order order) {
  return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(word)).load(order);
}

const char* Meaning(layout::FaultCode code) {
  switch (code) {
    case layout::FaultCode::kNone:
      break;
    case layout::FaultCode::kSumTimeout:
      return "sums of the residual did not become complete";
    case layout::FaultCode::kPacketTimeout:
      return "a packet did not come, of epoch";
    case layout::FaultCode::kTileTimeout:
      return "a weight tile did not arrive in slot";
    case layout::FaultCode::kStepTimeout:
      return "the scheduler got no results of step";
    case layout::FaultCode::kSharedBase:
      return "shared memory does not begin where the kernel was compiled for, but at";
  }
  return "unknown fault";
}

}  // namespace

HeartSample SampleOf(const layout::MailboxControl& control, bool running, std::int64_t now_ms) {
  HeartSample sample;
  sample.running = running;
  sample.now_ms = now_ms;
  sample.fault = Load(control.fault, std::memory_order_acquire);
  sample.fault_detail = Load(control.fault_detail, std::memory_order_relaxed);
  sample.heartbeat = Load(control.heartbeat, std::memory_order_relaxed);
  sample.steps = Load(control.steps, std::memory_order_relaxed);
  return sample;
}

std::string DescribeFault(std::uint64_t fault, std::uint64_t detail) {
  const auto code = static_cast<layout::FaultCode>(fault >> 32);
  return "kernel fault " + std::to_string(fault >> 32) + ": " + Meaning(code) + " " + std::to_string(detail) +
         " (block " + std::to_string(fault >> 16 & 0xffff) + ", warp " + std::to_string(fault & 0xffff) + ")";
}

std::string Watchdog::Look(const HeartSample& sample) {
  if (sample.fault != 0) return DescribeFault(sample.fault, sample.fault_detail);
  if (!sample.running || !watching_ || sample.heartbeat != heartbeat_) {
    watching_ = sample.running;
    heartbeat_ = sample.heartbeat;
    moved_ms_ = sample.now_ms;
    return "";
  }
  if (sample.now_ms - moved_ms_ < kHeartbeatLimitMs) return "";
  return "the kernel has not moved for " + std::to_string(sample.now_ms - moved_ms_) + " ms, after " +
         std::to_string(sample.steps) + " steps";
}

}  // namespace megakernel::host
