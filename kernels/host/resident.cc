#include "kernels/host/resident.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace megakernel::host {
namespace {

// How long a kernel that said that it leaves may take: it has nothing in flight.
constexpr std::chrono::milliseconds kReturnTime{1000};

}  // namespace

layout::SchedulerState FirstSchedulerState(const layout::Program& program, const layout::Policy& policy) {
  layout::SchedulerState state{};
  state.table.num_lanes = program.max_lanes;
  state.policy = policy;
  state.policy.max_rows = std::min(policy.max_rows, program.max_rows);
  return state;
}

Resident::Resident(ResidentDevice& device, const layout::Policy& policy)
    : device_(device), mailbox_(device.mailbox()), policy_(policy) {}

bool Resident::Launch() {
  if (!error_.empty()) return false;
  const LaunchRequest request{mailbox_.first_command(), mailbox_.first_event(), policy_};
  if (!device_.Launch(request, error_)) return false;
  ++num_launches_;
  running_.store(true, std::memory_order_release);
  return true;
}

bool Resident::Send(const layout::CommandLine& command) {
  if (!error_.empty()) return false;
  if (stopped_) {
    error_ = "the kernel has stopped";
    return false;
  }
  if (command.type == layout::CommandType::kSetPolicy) policy_ = command.policy;
  mailbox_.Send(command);
  return running() || Launch();
}

void Resident::AwaitReturn() {
  running_.store(false, std::memory_order_release);
  const auto deadline = std::chrono::steady_clock::now() + kReturnTime;
  while (true) {
    const KernelState state = device_.State(error_);
    if (state != KernelState::kRunning) return;
    if (std::chrono::steady_clock::now() > deadline) {
      error_ = "the kernel said that it leaves and still runs after " + std::to_string(kReturnTime.count()) + " ms";
      return;
    }
    std::this_thread::yield();
  }
}

bool Resident::Receive(layout::EventLine& event) {
  mailbox_.Flush();
  while (mailbox_.Receive(event)) {
    const auto kind = static_cast<layout::EventKind>(event.kind);
    if (kind != layout::EventKind::kParked && kind != layout::EventKind::kStopped) return true;
    mailbox_.ReturnCredit();
    AwaitReturn();
    if (kind == layout::EventKind::kStopped) {
      stopped_ = true;
      return true;
    }
    if (mailbox_.Unconsumed() > 0) Launch();
  }
  return false;
}

}  // namespace megakernel::host
