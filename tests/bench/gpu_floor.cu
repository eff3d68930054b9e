#include <cuda_runtime.h>

#include <cstdint>

#include "tests/bench/gpu_floor.h"

namespace megakernel::bench {
namespace {

constexpr int kReadThreads = 1024;
constexpr int kLoads = 8;  // in flight a thread
constexpr int kHandOvers = 1000;

__global__ void __launch_bounds__(kReadThreads) ReadAll(const uint4* data, std::size_t count, std::uint32_t* sink) {
  std::uint32_t sum = 0;
  const std::size_t stride = std::size_t{gridDim.x} * kReadThreads;
  std::size_t i = std::size_t{blockIdx.x} * kReadThreads + threadIdx.x;
  for (; i + (kLoads - 1) * stride < count; i += kLoads * stride) {
    uint4 words[kLoads];
#pragma unroll
    for (int k = 0; k < kLoads; ++k) words[k] = __ldcs(data + i + k * stride);
#pragma unroll
    for (int k = 0; k < kLoads; ++k) sum ^= words[k].x ^ words[k].y ^ words[k].z ^ words[k].w;
  }
  for (; i < count; i += stride) sum ^= data[i].x;
  if (sum == 0x12345678u) *sink = sum;  // never, but the compiler does not know
}

// words[0] is written by block 0, words[16] by block 1.
__global__ void PingPong(std::uint32_t* words, std::uint64_t* nanoseconds) {
  std::uint32_t* mine = words + 16 * blockIdx.x;
  std::uint32_t* other = words + 16 * (1 - blockIdx.x);
  std::uint64_t begin = 0, end = 0;
  for (std::uint32_t i = 1; i <= kHandOvers; ++i) {
    if (i == 2) asm volatile("mov.u64 %0, %globaltimer;" : "=l"(begin));
    if (blockIdx.x == 0) asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(mine), "r"(i) : "memory");
    std::uint32_t seen = 0;
    for (std::uint32_t polls = 0; seen != i && polls < (1u << 22); ++polls) {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(other) : "memory");
    }
    if (blockIdx.x == 1) asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(mine), "r"(i) : "memory");
  }
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(end));
  if (blockIdx.x == 0) *nanoseconds = end - begin;
}

// CUDA objects of one measurement.
class Scratch {
 public:
  ~Scratch() {
    cudaFree(memory_);
    if (begin_ != nullptr) cudaEventDestroy(begin_);
    if (end_ != nullptr) cudaEventDestroy(end_);
  }
  cudaError_t Take(std::size_t bytes) {
    if (const cudaError_t error = cudaMalloc(&memory_, bytes); error != cudaSuccess) return error;
    if (const cudaError_t error = cudaEventCreate(&begin_); error != cudaSuccess) return error;
    if (const cudaError_t error = cudaEventCreate(&end_); error != cudaSuccess) return error;
    return cudaMemset(memory_, 0, bytes);
  }
  // Milliseconds of what `launch` puts on the default stream.
  template <class Launch>
  cudaError_t Time(const Launch& launch, float* ms) {
    cudaEventRecord(begin_);
    launch();
    cudaEventRecord(end_);
    if (const cudaError_t error = cudaEventSynchronize(end_); error != cudaSuccess) return error;
    return cudaEventElapsedTime(ms, begin_, end_);
  }
  std::uint8_t* memory() const { return memory_; }

 private:
  std::uint8_t* memory_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

std::vector<double> Error(cudaError_t error, std::string& text) {
  text = cudaGetErrorString(error);
  return {};
}

}  // namespace

std::vector<double> GpuReadBandwidth(std::size_t bytes, int runs, std::string& text) {
  Scratch scratch;
  if (const cudaError_t error = scratch.Take(bytes + 16); error != cudaSuccess) return Error(error, text);
  int sms = 0;
  cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0);
  std::vector<double> gb_per_s;
  for (int run = -2; run < runs; ++run) {  // two to warm up
    float ms = 0.0f;
    const cudaError_t error = scratch.Time(
        [&] {
          ReadAll<<<2 * sms, kReadThreads>>>(reinterpret_cast<const uint4*>(scratch.memory()), bytes / 16,
                                             reinterpret_cast<std::uint32_t*>(scratch.memory() + bytes));
        },
        &ms);
    if (error != cudaSuccess) return Error(error, text);
    if (run >= 0) gb_per_s.push_back(static_cast<double>(bytes) / (ms * 1e6));
  }
  return gb_per_s;
}

std::vector<double> GpuHandOver(int runs, std::string& text) {
  Scratch scratch;
  if (const cudaError_t error = scratch.Take(4096); error != cudaSuccess) return Error(error, text);
  std::vector<double> nanoseconds;
  for (int run = -2; run < runs; ++run) {
    if (const cudaError_t error = cudaMemset(scratch.memory(), 0, 4096); error != cudaSuccess)
      return Error(error, text);
    float ms = 0.0f;
    const cudaError_t error = scratch.Time(
        [&] {
          PingPong<<<2, 1>>>(reinterpret_cast<std::uint32_t*>(scratch.memory()),
                             reinterpret_cast<std::uint64_t*>(scratch.memory() + 2048));
        },
        &ms);
    if (error != cudaSuccess) return Error(error, text);
    std::uint64_t total = 0;
    cudaMemcpy(&total, scratch.memory() + 2048, sizeof(total), cudaMemcpyDeviceToHost);
    if (run >= 0) nanoseconds.push_back(static_cast<double>(total) / (2.0 * (kHandOvers - 1)));
  }
  return nanoseconds;
}

}  // namespace megakernel::bench
