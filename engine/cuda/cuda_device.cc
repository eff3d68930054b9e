#include "engine/cuda/cuda_device.h"

#include <cuda_runtime.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/cuda/cuda_calls.h"
#include "kernels/device/megakernel.h"

namespace megakernel {
namespace {

constexpr std::int64_t kAlignment = 1024;
// How long the copy of a page, some megabytes, may take.
constexpr std::chrono::seconds kCopyTime{2};

std::int64_t Aligned(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Which bytes of the one allocation are what.
struct Arena {
  explicit Arena(const layout::Program& p) {
    weights = Place(p.weight_bytes);
    workspace = Place(p.workspace.total);
    rope = Place(std::int64_t{p.max_context} * p.head_dim / 2 * static_cast<std::int64_t>(sizeof(float2)));
    kv = Place(p.kv.PageBytes() * p.num_kv_pages);
  }
  std::int64_t weights, workspace, rope, kv;
  std::int64_t total = 0;

 private:
  std::int64_t Place(std::int64_t bytes) {
    const std::int64_t place = total;
    total += Aligned(bytes);
    return place;
  }
};

}  // namespace

struct CudaDevice::Memory {
  layout::Program program;
  CallGate gate;
  cudaStream_t stream = nullptr;
  cudaStream_t copies = nullptr;  // of pages, beside the kernel
  cudaEvent_t copied = nullptr;
  std::byte* staging = nullptr;  // pinned, one page
  std::uint8_t* arena = nullptr;
  std::byte* pinned = nullptr;  // mailbox, then the scheduler's first state
  layout::SchedulerState* first_state = nullptr;
  host::MailboxMemory mailbox;
  device::KernelArgs args;
  std::mutex launches;  // a launch and a look at the stream exclude each other

  ~Memory();
  absl::Status Take(int device_id);
  absl::Status Poison();
  // Copies one page through `staging` and waits for it by looking, which is allowed beside the kernel.
  absl::Status CopyPage(void* target, const void* source, cudaMemcpyKind kind);
};

absl::StatusOr<DeviceFacts> ReadDeviceFacts(int device) {
  // Read by the driver at its first call: modules are loaded at once, never beside a resident kernel.
  setenv("CUDA_MODULE_LOADING", "EAGER", 1);
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    return absl::FailedPreconditionError(
        absl::StrCat("no usable CUDA driver: ", cudaGetErrorName(error), " (", cudaGetErrorString(error), ")"));
  }
  if (device >= count) return absl::FailedPreconditionError(absl::StrCat("CUDA device ", device, " of ", count));
  CallGate gate;
  cudaDeviceProp properties;
  DeviceFacts facts;
  int time_limit = 0, compute_mode = 0;
  std::size_t free_bytes = 0, total_bytes = 0;
  MK_RETURN_IF_ERROR(
      CallCuda(gate, CudaCall::kQueryDevices, [&] { return cudaGetDeviceProperties(&properties, device); }));
  MK_RETURN_IF_ERROR(CallCuda(gate, CudaCall::kQueryDevices, [&] {
    return cudaDeviceGetAttribute(&time_limit, cudaDevAttrKernelExecTimeout, device);
  }));
  MK_RETURN_IF_ERROR(CallCuda(gate, CudaCall::kQueryDevices,
                              [&] { return cudaDeviceGetAttribute(&compute_mode, cudaDevAttrComputeMode, device); }));
  facts.name = properties.name;
  facts.prohibited = compute_mode == cudaComputeModeProhibited;
  if (!facts.prohibited) {  // these make a context
    MK_RETURN_IF_ERROR(CallCuda(gate, CudaCall::kSetDevice, [&] { return cudaSetDevice(device); }));
    MK_RETURN_IF_ERROR(
        CallCuda(gate, CudaCall::kQueryDevices, [&] { return cudaMemGetInfo(&free_bytes, &total_bytes); }));
  }
  facts.compute_major = properties.major;
  facts.compute_minor = properties.minor;
  facts.num_sms = properties.multiProcessorCount;
  facts.shared_bytes = static_cast<std::int32_t>(properties.sharedMemPerBlockOptin);
  facts.free_bytes = static_cast<std::int64_t>(free_bytes);
  facts.total_bytes = static_cast<std::int64_t>(total_bytes);
  facts.kernel_time_limit = time_limit != 0;
  facts.cooperative_launch = properties.cooperativeLaunch != 0;
  return facts;
}

CudaDevice::Memory::~Memory() {
  if (stream != nullptr && cudaStreamQuery(stream) == cudaErrorNotReady) return;
  gate.SetResident(false);
  if (arena != nullptr) (void)CallCuda(gate, CudaCall::kFree, [&] { return cudaFree(arena); });
  if (pinned != nullptr) (void)CallCuda(gate, CudaCall::kFreeHost, [&] { return cudaFreeHost(pinned); });
  if (copied != nullptr) (void)CallCuda(gate, CudaCall::kEventDestroy, [&] { return cudaEventDestroy(copied); });
  if (copies != nullptr) (void)CallCuda(gate, CudaCall::kStreamDestroy, [&] { return cudaStreamDestroy(copies); });
  if (stream != nullptr) (void)CallCuda(gate, CudaCall::kStreamDestroy, [&] { return cudaStreamDestroy(stream); });
}

absl::Status CudaDevice::Memory::Take(int device_id) {
  const Arena places(program);
  MK_RETURN_IF_ERROR(CallCuda(gate, CudaCall::kSetDevice, [&] { return cudaSetDevice(device_id); }));
  if (absl::Status status =
          CallCuda(gate, CudaCall::kMalloc, [&] { return cudaMalloc(&arena, static_cast<std::size_t>(places.total)); });
      !status.ok()) {
    arena = nullptr;
    return absl::ResourceExhaustedError(absl::StrCat(
        "GPU memory: weights ", program.weight_bytes, " bytes, ", program.num_kv_pages, " KV pages of ",
        program.kv.PageBytes(), " bytes and the workspace need ", places.total, " bytes: ", status.message()));
  }
  const std::size_t mailbox_bytes = host::MailboxBytes(program);
  const std::size_t bytes = mailbox_bytes + sizeof(layout::SchedulerState) + program.kv.PageBytes();
  MK_RETURN_IF_ERROR(CallCuda(gate, CudaCall::kHostAlloc, [&] {
    return cudaHostAlloc(reinterpret_cast<void**>(&pinned), bytes, cudaHostAllocMapped | cudaHostAllocPortable);
  }));
  std::memset(pinned, 0, bytes);
  mailbox = host::PlaceMailbox(program, pinned);
  first_state = reinterpret_cast<layout::SchedulerState*>(pinned + mailbox_bytes);
  staging = pinned + mailbox_bytes + sizeof(layout::SchedulerState);
  MK_RETURN_IF_ERROR(CallCuda(gate, CudaCall::kStreamCreate,
                              [&] { return cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking); }));
  MK_RETURN_IF_ERROR(CallCuda(gate, CudaCall::kStreamCreate,
                              [&] { return cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking); }));
  MK_RETURN_IF_ERROR(CallCuda(gate, CudaCall::kEventCreate,
                              [&] { return cudaEventCreateWithFlags(&copied, cudaEventDisableTiming); }));
  args.program = program;
  args.weights = arena + places.weights;
  args.workspace = arena + places.workspace;
  args.rope = reinterpret_cast<const float2*>(arena + places.rope);
  args.kv = arena + places.kv;
  args.control = mailbox.control;
  args.commands = mailbox.commands;
  args.events = mailbox.events;
  args.lanes = mailbox.lanes();
  return absl::OkStatus();
}

// A page that nobody wrote holds NaN, so that a read of it shows.
absl::Status CudaDevice::Memory::Poison() {
  const auto bytes = static_cast<std::size_t>(program.kv.PageBytes() * program.num_kv_pages);
  MK_RETURN_IF_ERROR(CallCuda(gate, CudaCall::kMemset, [&] { return cudaMemsetAsync(args.kv, 0xff, bytes, stream); }));
  return CallCuda(gate, CudaCall::kSynchronize, [&] { return cudaStreamSynchronize(stream); });
}

absl::Status CudaDevice::Memory::CopyPage(void* target, const void* source, cudaMemcpyKind kind) {
  const auto bytes = static_cast<std::size_t>(program.kv.PageBytes());
  MK_RETURN_IF_ERROR(CallCuda(gate, CudaCall::kMemcpyAsyncPinned,
                              [&] { return cudaMemcpyAsync(target, source, bytes, kind, copies); }));
  MK_RETURN_IF_ERROR(CallCuda(gate, CudaCall::kEventRecord, [&] { return cudaEventRecord(copied, copies); }));
  const auto deadline = std::chrono::steady_clock::now() + kCopyTime;
  while (true) {
    MK_RETURN_IF_ERROR(gate.Enter(CudaCall::kEventQuery));
    const cudaError_t state = cudaEventQuery(copied);
    if (state != cudaErrorNotReady) return CudaStatus(CudaCall::kEventQuery, state);
    if (std::chrono::steady_clock::now() > deadline)
      return absl::DeadlineExceededError("the copy of a page takes too long");
  }
}

CudaDevice::CudaDevice(std::unique_ptr<Memory> memory) : memory_(std::move(memory)) {}
CudaDevice::~CudaDevice() = default;

absl::StatusOr<std::unique_ptr<CudaDevice>> CudaDevice::Create(const layout::Program& program, int device,
                                                               std::uint32_t park_after_us) {
  auto memory = std::make_unique<Memory>();
  memory->program = program;
  MK_RETURN_IF_ERROR(memory->Take(device));
  memory->args.park_after_us = park_after_us;
  MK_RETURN_IF_ERROR(CallCuda(memory->gate, CudaCall::kPrepareKernel, [&] { return device::PrepareKernel(program); }));
  int blocks = 0;
  MK_RETURN_IF_ERROR(
      CallCuda(memory->gate, CudaCall::kQueryDevices, [&] { return device::MaxResidentBlocks(program, &blocks); }));
  if (blocks < 1) return absl::FailedPreconditionError("a block of the kernel does not fit an SM of this device");
  MK_RETURN_IF_ERROR(memory->Poison());
  return std::unique_ptr<CudaDevice>(new CudaDevice(std::move(memory)));
}

absl::Status CudaDevice::UploadWeights(std::int64_t offset, const void* data, std::size_t bytes) {
  auto* target = const_cast<std::uint8_t*>(memory_->args.weights) + offset;
  return CallCuda(memory_->gate, CudaCall::kMemcpy,
                  [&] { return cudaMemcpy(target, data, bytes, cudaMemcpyHostToDevice); });
}

absl::Status CudaDevice::UploadRope(const float* table, std::size_t floats) {
  return CallCuda(memory_->gate, CudaCall::kMemcpy, [&] {
    return cudaMemcpy(const_cast<float2*>(memory_->args.rope), table, floats * sizeof(float), cudaMemcpyHostToDevice);
  });
}

absl::Status CudaDevice::ReadWorkspace(std::int64_t offset, void* out, std::size_t bytes) {
  return CallCuda(memory_->gate, CudaCall::kMemcpy,
                  [&] { return cudaMemcpy(out, memory_->args.workspace + offset, bytes, cudaMemcpyDeviceToHost); });
}

absl::Status CudaDevice::ReadLogits(std::int32_t row, float* out, std::size_t floats) {
  const layout::Program& p = memory_->program;
  const std::int64_t row_bytes = std::int64_t{4} * p.matrix[layout::kPhaseHead].group_rows;
  return ReadWorkspace(p.workspace.logits + row * row_bytes, out, floats * sizeof(float));
}

const host::MailboxMemory& CudaDevice::mailbox() const {
  return memory_->mailbox;
}

bool CudaDevice::Launch(const host::LaunchRequest& request, std::string& error) {
  Memory& m = *memory_;
  const layout::Program& p = m.program;
  std::lock_guard<std::mutex> lock(m.launches);
  *m.first_state = host::FirstSchedulerState(p, request.policy);
  m.args.first_command = request.first_command;
  m.args.first_event = request.first_event;
  absl::Status status = CallCuda(m.gate, CudaCall::kMemset, [&] {
    return cudaMemsetAsync(m.args.workspace, 0, static_cast<std::size_t>(p.workspace.total), m.stream);
  });
  if (status.ok()) {
    status = CallCuda(m.gate, CudaCall::kMemcpyAsyncPinned, [&] {
      return cudaMemcpyAsync(m.args.workspace + p.workspace.scheduler, m.first_state, sizeof(layout::SchedulerState),
                             cudaMemcpyHostToDevice, m.stream);
    });
  }
  if (status.ok()) {
    status = CallCuda(m.gate, CudaCall::kLaunch, [&] { return device::LaunchKernel(m.args, m.stream); });
  }
  if (!status.ok()) {
    error = std::string(status.message());
    return false;
  }
  m.gate.SetResident(true);
  return true;
}

host::KernelState CudaDevice::State(std::string& error) const {
  std::lock_guard<std::mutex> lock(memory_->launches);
  if (!memory_->gate.resident()) return host::KernelState::kReturned;
  const cudaError_t result = cudaStreamQuery(memory_->stream);
  if (result == cudaErrorNotReady) return host::KernelState::kRunning;
  if (result == cudaSuccess) {
    memory_->gate.SetResident(false);
    return host::KernelState::kReturned;
  }
  error = std::string(CudaStatus(CudaCall::kStreamQuery, result).message());
  return host::KernelState::kFailed;
}

bool CudaDevice::ReadPages(std::span<const std::int32_t> pages, std::byte* bytes, std::string& error) {
  Memory& m = *memory_;
  const std::int64_t page_bytes = m.program.kv.PageBytes();
  for (const std::int32_t page : pages) {
    const absl::Status status = m.CopyPage(m.staging, m.args.kv + page * page_bytes, cudaMemcpyDeviceToHost);
    if (!status.ok()) {
      error = std::string(status.message());
      return false;
    }
    std::memcpy(bytes, m.staging, static_cast<std::size_t>(page_bytes));
    bytes += page_bytes;
  }
  return true;
}

bool CudaDevice::WritePages(std::span<const std::int32_t> pages, const std::byte* bytes, std::string& error) {
  Memory& m = *memory_;
  const std::int64_t page_bytes = m.program.kv.PageBytes();
  for (const std::int32_t page : pages) {
    std::memcpy(m.staging, bytes, static_cast<std::size_t>(page_bytes));
    const absl::Status status = m.CopyPage(m.args.kv + page * page_bytes, m.staging, cudaMemcpyHostToDevice);
    if (!status.ok()) {
      error = std::string(status.message());
      return false;
    }
    bytes += page_bytes;
  }
  return true;
}

}  // namespace megakernel
