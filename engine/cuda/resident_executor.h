// The executor over a resident kernel: commands and events of executor.h in terms of the mailbox.
//
// No CUDA: the kernel is a host::ResidentDevice, which the GPU implements (cuda_device.h) and tests simulate. The
// kernel plans, samples and feeds tokens back by itself, so nothing here is between two tokens.
//
// Threads: Submit, Drain and Wait are the engine's, as always. A watchdog thread looks at the kernel's heartbeat and
// fault word every few milliseconds; what it finds ends every sequence with kFailed and is told by Health().
#pragma once

#include <memory>

#include "absl/time/time.h"
#include "engine/executor/executor.h"
#include "kernels/host/resident.h"
#include "kernels/layout/program.h"

namespace megakernel {

struct ResidentOptions {
  // How long Wait looks at the mailbox without giving up the processor, after the last event, while sequences run.
  absl::Duration spin = absl::Milliseconds(2);
  // How often it looks after that.
  absl::Duration nap = absl::Microseconds(50);
};

// What an executor of `program` offers: greedy choice, temperature, top_k, top_p, min_p.
ExecutorInfo ResidentInfo(const layout::Program& program, const std::string& device);

// `device` runs `program`. The kernel is launched by the first command.
std::unique_ptr<Executor> NewResidentExecutor(const layout::Program& program, const std::string& device_name,
                                              std::unique_ptr<host::ResidentDevice> device,
                                              const ResidentOptions& options);

}  // namespace megakernel
