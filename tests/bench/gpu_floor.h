// What this GPU can do at best: reading memory, and handing a word from one SM to another.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace megakernel::bench {

// GB/s (10^9 bytes) of all SMs reading `bytes` of device memory with 16-byte loads, one value a run. No resident kernel
// may run. Empty, with `error` set, when CUDA refuses.
std::vector<double> GpuReadBandwidth(std::size_t bytes, int runs, std::string& error);

// Nanoseconds of a one-way hand-over: two blocks answer each other 1,000 times through two words of device memory
// (st.release.gpu, ld.acquire.gpu); half of the mean round trip, one value a run.
std::vector<double> GpuHandOver(int runs, std::string& error);

}  // namespace megakernel::bench
