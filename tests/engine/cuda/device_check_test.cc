// Devices and environments that do not suit a kernel that never leaves, and the calls that must not be made beside it.
#include "engine/cuda/device_check.h"

#include <gtest/gtest.h>

#include <functional>

#include "absl/strings/match.h"
#include "engine/cuda/call_gate.h"

namespace megakernel {
namespace {

DeviceFacts Hopper() {
  DeviceFacts facts;
  facts.name = "NVIDIA H100";
  facts.compute_major = 9;
  facts.num_sms = 132;
  facts.cooperative_launch = true;
  return facts;
}

TEST(DeviceCheckTest, AWholeHopperWillDo) {
  EXPECT_TRUE(CheckDevice(Hopper()).ok()) << CheckDevice(Hopper());
  EXPECT_TRUE(CheckEnvironment({}).ok());
  EXPECT_TRUE(CheckEnvironment({.launch_blocking = "0", .max_connections = "8", .mps_thread_percentage = "100"}).ok());
}

TEST(DeviceCheckTest, OtherDevicesAreRefusedByName) {
  const auto refusal = [](const std::function<void(DeviceFacts&)>& change) {
    DeviceFacts facts = Hopper();
    change(facts);
    const absl::Status status = CheckDevice(facts);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE(absl::StartsWith(status.message(), facts.name)) << status;
    return std::string(status.message());
  };
  EXPECT_TRUE(absl::StrContains(refusal([](DeviceFacts& f) { f.name = "NVIDIA H100 MIG 1g.10gb"; }), "MIG slice"));
  EXPECT_TRUE(absl::StrContains(refusal([](DeviceFacts& f) { f.kernel_time_limit = true; }), "a display hangs on it"));
  EXPECT_TRUE(absl::StrContains(refusal([](DeviceFacts& f) { f.prohibited = true; }), "compute mode prohibits"));
  EXPECT_TRUE(absl::StrContains(refusal([](DeviceFacts& f) { f.compute_major = 8; }), "compute capability 8.0"));
  EXPECT_TRUE(absl::StrContains(refusal([](DeviceFacts& f) { f.compute_major = 10; }), "compute capability 10.0"));
  EXPECT_TRUE(absl::StrContains(refusal([](DeviceFacts& f) { f.cooperative_launch = false; }), "all blocks"));
}

TEST(DeviceCheckTest, VariablesThatHangAResidentKernelAreRefusedByName) {
  const auto refusal = [](const CudaEnvironment& environment) {
    const absl::Status status = CheckEnvironment(environment);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    return std::string(status.message().substr(0, status.message().find(':')));
  };
  EXPECT_EQ(refusal({.launch_blocking = "1"}), "CUDA_LAUNCH_BLOCKING=1");
  EXPECT_EQ(refusal({.max_connections = "1"}), "CUDA_DEVICE_MAX_CONNECTIONS=1");
  EXPECT_EQ(refusal({.mps_thread_percentage = "50"}), "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=50");
  EXPECT_EQ(refusal({.mps_pinned_memory = "0=2G"}), "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=2G");
}

TEST(CallGateTest, EveryCallIsAllowedWhileNoKernelIsResident) {
  const CallGate gate;
  for (int call = 0; call < static_cast<int>(CudaCall::kNumCalls); ++call) {
    EXPECT_TRUE(gate.Enter(static_cast<CudaCall>(call)).ok());
    EXPECT_STRNE(CudaCallName(static_cast<CudaCall>(call)), "unknown call");
  }
}

TEST(CallGateTest, BesideTheKernelOnlyTheListIsAllowed) {
  CallGate gate;
  gate.SetResident(true);
  for (const CudaCall call :
       {CudaCall::kMemcpyAsyncPinned, CudaCall::kEventRecord, CudaCall::kEventQuery, CudaCall::kStreamQuery}) {
    EXPECT_TRUE(gate.Enter(call).ok()) << CudaCallName(call);
  }
  for (const CudaCall call :
       {CudaCall::kMalloc, CudaCall::kFree, CudaCall::kHostAlloc, CudaCall::kFreeHost, CudaCall::kMemcpy,
        CudaCall::kMemset, CudaCall::kSynchronize, CudaCall::kStreamCreate, CudaCall::kStreamDestroy,
        CudaCall::kEventCreate, CudaCall::kEventDestroy, CudaCall::kPrepareKernel, CudaCall::kLaunch,
        CudaCall::kQueryDevices, CudaCall::kSetDevice}) {
#ifdef NDEBUG
    const absl::Status status = gate.Enter(call);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE(absl::StartsWith(status.message(), CudaCallName(call))) << status;
#else
    EXPECT_DEATH((void)gate.Enter(call), CudaCallName(call));
#endif
  }
  gate.SetResident(false);
  EXPECT_TRUE(gate.Enter(CudaCall::kMalloc).ok());
}

}  // namespace
}  // namespace megakernel
