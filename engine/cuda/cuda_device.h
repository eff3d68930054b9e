// A GPU that runs one program: the memory of its life (weights, KV pages, workspace, mailbox), taken once before the
// first launch, and the launches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "engine/cuda/call_gate.h"
#include "engine/cuda/device_check.h"
#include "kernels/host/resident.h"
#include "kernels/layout/program.h"

namespace megakernel {

// Reads a device's facts. FailedPrecondition when there is no driver or no such device.
absl::StatusOr<DeviceFacts> ReadDeviceFacts(int device);

class CudaDevice final : public host::ResidentDevice {
 public:
  // Takes all memory, fills KV pages with NaN, loads the kernel. ResourceExhausted naming need and have.
  static absl::StatusOr<std::unique_ptr<CudaDevice>> Create(const layout::Program& program, int device,
                                                            std::uint32_t park_after_us);
  // Memory of a kernel that still runs is left to the end of the process: freeing it would wait for the kernel.
  ~CudaDevice() override;

  // --- Before the first launch ---
  // Copies to the weights at `offset`, to the rope table ([max_context][head_dim / 2] {cos, sin}).
  absl::Status UploadWeights(std::int64_t offset, const void* data, std::size_t bytes);
  absl::Status UploadRope(const float* table, std::size_t floats);

  // --- host::ResidentDevice ---
  const host::MailboxMemory& mailbox() const override;
  bool Launch(const host::LaunchRequest& request, std::string& error) override;
  host::KernelState State(std::string& error) const override;
  bool ReadPages(std::span<const std::int32_t> pages, std::byte* bytes, std::string& error) override;
  bool WritePages(std::span<const std::int32_t> pages, const std::byte* bytes, std::string& error) override;

  // --- While no kernel runs ---
  // Copies from the workspace, as the last launch left it.
  absl::Status ReadWorkspace(std::int64_t offset, void* out, std::size_t bytes);
  // The first `floats` logits of row `row` of the step that ran last.
  absl::Status ReadLogits(std::int32_t row, float* out, std::size_t floats);

 private:
  struct Memory;
  explicit CudaDevice(std::unique_ptr<Memory> memory);

  std::unique_ptr<Memory> memory_;
};

}  // namespace megakernel
