// A resident kernel on the processor: the device's own scheduler (kernels/device/scheduler_loop.h) on one thread, and
// on another one what all blocks together do with a step, with the fake's "keys and values" (engine/executor/
// fake_machine.h) instead of a model. So tokens are those of FakeGenerate, through the page tables, if and only if
// commands, plans, pages and events are right.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/executor/fake_machine.h"
#include "kernels/host/resident.h"
#include "kernels/layout/program.h"

namespace megakernel::test {

struct SimulatedOptions {
  FakeOptions fake;  // lanes, context, pages, vocabulary, first_token
  std::chrono::microseconds step_time{0};
  std::uint32_t park_after_us = 0;
};

enum class SimulatedFault : int {
  kNone,
  kLostToken,     // no row of the steps from now on gets its token: the scheduler finds out
  kFrozen,        // everything stands still without a word: the host's watchdog finds out
  kTrap,          // a block names a fault and the kernel dies
  kRefuseLaunch,  // the next launch fails
};

// The part of a Program that mailbox and scheduler use, for lanes, pages and vocabulary of `fake`; 8 rows a step.
layout::Program SimulatedProgram(const FakeOptions& fake);

class SimulatedDevice final : public host::ResidentDevice {
 public:
  explicit SimulatedDevice(const SimulatedOptions& options);
  ~SimulatedDevice() override;

  const host::MailboxMemory& mailbox() const override { return mailbox_; }
  bool Launch(const host::LaunchRequest& request, std::string& error) override;
  host::KernelState State(std::string& error) const override;
  // A page's bytes begin with the hashes of its positions.
  bool ReadPages(std::span<const std::int32_t> pages, std::byte* bytes, std::string& error) override;
  bool WritePages(std::span<const std::int32_t> pages, const std::byte* bytes, std::string& error) override;

  // --- For tests; any thread ---
  void Inject(SimulatedFault fault) { fault_.store(fault); }
  const layout::Program& program() const { return program_; }

  // What SchedulerLoop is launched with: the members of KernelArgs that it uses.
  struct Args {
    layout::Program program;
    std::uint8_t* workspace = nullptr;
    layout::MailboxControl* control = nullptr;
    const layout::CommandLine* commands = nullptr;
    layout::EventLine* events = nullptr;
    layout::LaneMemory lanes;
    std::uint64_t first_command = 1;
    std::uint64_t first_event = 1;
    std::uint32_t leave_when_idle = 0;
    std::uint32_t park_after_us = 0;
    SimulatedDevice* device = nullptr;
  };
  // Ends the calling thread's part of the kernel when the kernel is over, or stands still while it is frozen.
  void CheckAlive();
  [[noreturn]] void Die(layout::FaultCode code, std::uint64_t detail);

 private:
  void RunScheduler();
  void RunBlocks();
  bool RunStep(std::uint32_t step);
  void RunRow(std::uint32_t step, std::int32_t row, const std::uint64_t* packets);
  void CopyPage(std::uint32_t step, const std::uint64_t* packets);
  std::uint64_t* Words(std::int64_t offset) { return reinterpret_cast<std::uint64_t*>(workspace_.data() + offset); }
  void Join();

  const SimulatedOptions options_;
  const layout::Program program_;
  std::vector<std::byte> memory_;  // of the mailbox
  host::MailboxMemory mailbox_;
  std::vector<std::uint8_t> workspace_;
  std::vector<std::uint64_t> slots_;  // by page and position in it: the hash of the prefix
  Args args_;
  std::atomic<SimulatedFault> fault_{SimulatedFault::kNone};
  std::atomic<host::KernelState> state_{host::KernelState::kReturned};
  std::atomic<bool> over_{false};  // no thread of the kernel goes on
  std::thread scheduler_, blocks_;
};

}  // namespace megakernel::test
