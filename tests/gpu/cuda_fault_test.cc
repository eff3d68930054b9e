// What breaks on a GPU: a call that is not allowed beside the kernel, and a kernel that loses a signal. The second
// leaves a context that nothing can be done with, so it is the last test of its process.
#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "engine/cuda/cuda_device.h"
#include "engine/cuda/model_view.h"
#include "engine/cuda/resident_executor.h"
#include "tests/gpu/cuda_rig.h"

namespace megakernel::test {
namespace {

// A device with zero weights, and the program as `change` leaves it.
template <class Change>
std::unique_ptr<CudaDevice> DeviceOf(Change change, layout::Program& program) {
  const Model& model = PresetModel("qwen3-tiny");
  const ModelViewOf view(model);
  const auto facts = FindCudaDevice(0);
  auto planned = PlanCudaProgram(view.view(), model.config(), *facts, SmallGpu());
  if (!planned.ok()) ADD_FAILURE() << planned.status();
  program = *planned;
  change(program);
  auto device = CudaDevice::Create(program, 0, 0);
  if (!device.ok()) ADD_FAILURE() << device.status();
  return *std::move(device);
}

TEST(CudaFaultTest, ACallThatIsNotAllowedBesideTheKernelIsRefusedByName) {
  SKIP_WITHOUT_GPU();
#ifndef NDEBUG
  GTEST_SKIP() << "debug builds end the process";
#endif
  layout::Program program;
  auto device = DeviceOf([](layout::Program&) {}, program);
  CudaDevice& raw = *device;
  float word = 0.0f;
  EXPECT_TRUE(raw.UploadWeights(0, &word, sizeof(word)).ok());
  const auto executor = NewResidentExecutor(program, "gpu", std::move(device), ResidentOptions());
  ASSERT_TRUE(executor->Submit(SetPolicy{{8, 8, 8}}).ok());
  const absl::Status refused = raw.UploadWeights(0, &word, sizeof(word));
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(refused.message(), "cudaMemcpy while the resident kernel runs")) << refused;
}

TEST(CudaFaultTest, ALostSignalEndsWithANamedFault) {
  SKIP_WITHOUT_GPU();
  layout::Program program;
  // One block of the last group is never launched: what it should send is lost.
  auto device = DeviceOf([](layout::Program& p) { p.num_blocks = p.LayerBlocks() - 1; }, program);
  Runner runner(NewResidentExecutor(program, "gpu", std::move(device), ResidentOptions()));
  const absl::Time start = absl::Now();
  const Outcome outcome = runner.Run(GpuPrompt(PresetModel("qwen3-tiny"), 5, 10));
  EXPECT_EQ(outcome.cause, FinishCause::kFailed);
  const absl::Duration took = absl::Now() - start;
  EXPECT_LT(took, absl::Seconds(2));
  const std::string why(runner.executor().Health().message());
  EXPECT_TRUE(absl::StrContains(why, "kernel fault") || absl::StrContains(why, "has not moved")) << why;
  std::printf("fault lost_signal %.3f: %s\n", absl::ToDoubleSeconds(took), why.c_str());
}

}  // namespace
}  // namespace megakernel::test
