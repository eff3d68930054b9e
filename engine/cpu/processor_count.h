// How many processors this process may use.
#pragma once

#include <string>

namespace megakernel::cpu {

// The smaller of the affinity mask and the CPU quota of the control groups (versions 1 and 2, rounded up), at least 1:
// inside a container the host's cores say nothing.
int UsableProcessors();

// The quota in processors that the control groups mounted at `root` (normally /sys/fs/cgroup) set for a process whose
// /proc/self/cgroup reads `membership`; the smallest on the way up; 0 = none.
double CgroupQuota(const std::string& root, const std::string& membership);

}  // namespace megakernel::cpu
