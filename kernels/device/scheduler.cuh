// The scheduler on the device: scheduler_loop.h with the machine's words.
#pragma once

#include "kernels/device/block.cuh"
#include "kernels/device/scheduler_loop.h"

namespace megakernel::device {

struct DeviceWords {
  static constexpr std::uint32_t kSpinLimit = device::kSpinLimit;

  static __device__ std::uint64_t LoadAcquireSystem(const std::uint64_t* word) {
    return device::LoadAcquireSystem(word);
  }
  static __device__ void StoreReleaseSystem(std::uint64_t* word, std::uint64_t value) {
    device::StoreReleaseSystem(word, value);
  }
  static __device__ void StoreRelaxedSystem(std::uint64_t* word, std::uint64_t value) {
    device::StoreRelaxedSystem(word, value);
  }
  static __device__ std::uint64_t LoadRelaxed(const std::uint64_t* word) { return device::LoadRelaxed(word); }
  static __device__ void StoreRelaxed(std::uint64_t* word, std::uint64_t value) { device::StoreRelaxed(word, value); }
  static __device__ void FenceGpu() { device::FenceGpu(); }
  static __device__ std::uint64_t GlobalTimer() { return device::GlobalTimer(); }
  static __device__ void Sleep(std::uint32_t ns) { __nanosleep(ns); }
  static __device__ void AwaitPacket(const KernelArgs&, const std::uint64_t* word, std::uint32_t epoch) {
    device::AwaitPacket(word, 0, epoch);
  }
  static __device__ void Fault(const KernelArgs&, FaultCode code, std::uint64_t detail) { device::Fault(code, detail); }
};

using Scheduler = SchedulerLoop<KernelArgs, DeviceWords>;

__device__ __noinline__ void RunScheduler() {
  Scheduler(kernel_args).Run();
}

}  // namespace megakernel::device
