// Processor time.
#pragma once

namespace megakernel::bench {

// Of this process since its start, all threads, user and kernel.
double CpuSeconds();

}  // namespace megakernel::bench
