// The life of the resident kernel as the host sees it: launched by the first command, read and written through the
// mailbox, parked when it says so, launched again by the next command, stopped.
//
//   parked --Send--> running --kParked--> parked        (at once running again if a command came too late)
//                    running --kStopped--> stopped
//                    any --launch refused--> failed
//
// No CUDA here: a ResidentDevice launches. What a kernel that hangs or traps looks like is for host/watchdog.h.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kernels/host/mailbox.h"

namespace megakernel::host {

enum class KernelState {
  kRunning,
  kReturned,  // as it should, or never launched
  kFailed,
};

// What a launch starts with.
struct LaunchRequest {
  std::uint64_t first_command = 1;
  std::uint64_t first_event = 1;
  layout::Policy policy;  // the last one sent
};

// Launches the kernel over one mailbox. State may be called from any thread, the rest from one.
class ResidentDevice {
 public:
  virtual ~ResidentDevice() = default;
  virtual const MailboxMemory& mailbox() const = 0;
  // Starts the kernel on a zeroed workspace. False when refused; `error` says why. REQUIRES: State is kReturned.
  virtual bool Launch(const LaunchRequest& request, std::string& error) = 0;
  // `error` is set when the kernel has failed.
  virtual KernelState State(std::string& error) const = 0;
  // Copies whole pages, whether a kernel runs or not: `bytes` is [pages.size(), page bytes]. Returns when it is done.
  // False when it failed; `error` says why.
  virtual bool ReadPages(std::span<const std::int32_t> pages, std::byte* bytes, std::string& error) = 0;
  virtual bool WritePages(std::span<const std::int32_t> pages, const std::byte* bytes, std::string& error) = 0;
};

// SchedulerState as a launch needs it.
layout::SchedulerState FirstSchedulerState(const layout::Program& program, const layout::Policy& policy);

// One thread, but for running().
class Resident {
 public:
  // `policy` holds until a kSetPolicy is sent. `device` outlives this object.
  Resident(ResidentDevice& device, const layout::Policy& policy);

  // Hands a command to the kernel, launching it when it does not run. False when that was refused or the kernel has
  // stopped or failed: error() says why.
  bool Send(const layout::CommandLine& command);
  // The next event but kParked, which ends here. Call ReturnCredit when there are no more.
  bool Receive(layout::EventLine& event);
  void ReturnCredit() { mailbox_.ReturnCredit(); }

  Mailbox& mailbox() { return mailbox_; }
  const Mailbox& mailbox() const { return mailbox_; }
  // Whether a kernel was launched and has not said that it leaves. Any thread.
  bool running() const { return running_.load(std::memory_order_acquire); }
  bool stopped() const { return stopped_; }
  std::int64_t num_launches() const { return num_launches_; }
  const std::string& error() const { return error_; }

 private:
  bool Launch();
  // The kernel said that it leaves: waits for that, a matter of microseconds.
  void AwaitReturn();

  ResidentDevice& device_;
  Mailbox mailbox_;
  layout::Policy policy_;
  std::atomic<bool> running_{false};
  bool stopped_ = false;
  std::int64_t num_launches_ = 0;
  std::string error_;
};

}  // namespace megakernel::host
