// What the resident kernel is launched with.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/layout/mailbox.h"
#include "kernels/layout/program.h"

namespace megakernel::device {

// Passed by value. Owns nothing; everything named here outlives the kernel.
struct KernelArgs {
  layout::Program program;
  const std::uint8_t* weights = nullptr;
  std::uint8_t* workspace = nullptr;  // WorkspaceOffsets; zero at launch, but for the page table
  std::uint8_t* kv = nullptr;
  const float2* rope = nullptr;                   // [max_context][head_dim / 2] {cos, sin}
  layout::MailboxControl* control = nullptr;      // pinned
  const layout::CommandLine* commands = nullptr;  // pinned, [kCommandLines]
  layout::EventLine* events = nullptr;            // pinned, [kEventLines]
  layout::LaneMemory lanes;                       // pinned
  std::uint64_t first_command = 1;                // sequence of the next command to read
  std::uint64_t first_event = 1;                  // sequence of the next event to write
  std::uint32_t leave_when_idle = 0;              // 1: return when nothing runs and no command waits
  std::uint32_t park_after_us = 0;                // idle time after which the kernel returns; 0: never
};

}  // namespace megakernel::device
