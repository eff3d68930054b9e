// Commands and events of executor.h as lines of the mailbox. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "engine/executor/executor.h"
#include "kernels/layout/mailbox.h"

namespace megakernel {

// What the executor remembers of a lane.
struct LanePages {
  std::uint32_t epoch = 0;
  std::int32_t num_pages = 0;  // in its page table
  bool open = false;           // admitted, kFinished not drained
};

// Lane memory is written apart (host::Mailbox).
layout::CommandLine AdmitLine(const Admit& admit);
layout::CommandLine GrantLine(const GrantPages& grant, std::int32_t num_pages);
// Of Cancel, CopyPage, SetPolicy, Park.
layout::CommandLine PlainLine(const Command& command);

// REQUIRES: the line is none of kNone and kParked.
Event EventOf(const layout::EventLine& line);

// InvalidArgument when a lane's page table cannot hold so many pages.
absl::Status CheckPageCount(std::size_t num_pages, const ExecutorInfo& info);

}  // namespace megakernel
