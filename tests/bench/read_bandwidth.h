// How fast this machine reads memory.
#pragma once

#include <vector>

namespace megakernel::bench {

// GB/s (10^9 bytes) of `threads` threads that read disjoint parts of one buffer of 256 MiB, one value a run.
std::vector<double> ReadBandwidth(int threads, int runs);

}  // namespace megakernel::bench
