#include "engine/cuda/cuda_executor.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/cuda/cuda_device.h"
#include "engine/cuda/model_view.h"
#include "engine/cuda/resident_executor.h"
#include "kernels/host/pack.h"
#include "kernels/reference/rope.h"

namespace megakernel {
namespace {

constexpr std::int64_t kUploadPiece = std::int64_t{64} << 20;
std::vector<float> RopeTable(const reference::Rope& rope, std::int32_t head_dim, std::int32_t max_context) {
  const std::vector<double> frequencies = reference::RopeFrequencies(rope, head_dim);
  std::vector<float> table;
  table.reserve(std::size_t{2} * max_context * frequencies.size());
  for (std::int32_t position = 0; position < max_context; ++position) {
    for (const double frequency : frequencies) {
      table.push_back(static_cast<float>(std::cos(position * frequency)));
      table.push_back(static_cast<float>(std::sin(position * frequency)));
    }
  }
  return table;
}

absl::Status Upload(const std::vector<std::uint8_t>& arena, const CudaOptions& options, CudaDevice& device) {
  const auto total = static_cast<std::int64_t>(arena.size());
  for (std::int64_t done = 0; done < total; done += kUploadPiece) {
    if (options.progress) options.progress("upload", static_cast<double>(done) / static_cast<double>(total));
    const std::int64_t bytes = std::min(kUploadPiece, total - done);
    MK_RETURN_IF_ERROR(device.UploadWeights(done, arena.data() + done, static_cast<std::size_t>(bytes)));
  }
  if (options.progress) options.progress("upload", 1.0);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DeviceFacts> FindCudaDevice(int device) {
  MK_RETURN_IF_ERROR(CheckEnvironment(ReadCudaEnvironment()));
  MK_ASSIGN_OR_RETURN(DeviceFacts facts, ReadDeviceFacts(device));
  MK_RETURN_IF_ERROR(CheckDevice(facts));
  return facts;
}

absl::StatusOr<LoadedDevice> LoadCudaDevice(const Model& model, const CudaOptions& options) {
  MK_ASSIGN_OR_RETURN(const DeviceFacts facts, FindCudaDevice(options.device));
  LoadedDevice loaded;
  loaded.name = facts.name;
  const ModelViewOf view(model, options.threads);
  MK_ASSIGN_OR_RETURN(loaded.program, PlanCudaProgram(view.view(), model.config(), facts, options));
  MK_ASSIGN_OR_RETURN(std::unique_ptr<CudaDevice> device,
                      CudaDevice::Create(loaded.program, options.device, options.park_after_us));
  if (options.progress) options.progress("pack", 0.0);
  std::vector<std::uint8_t> arena(static_cast<std::size_t>(loaded.program.weight_bytes));
  host::PackStatistics statistics;
  host::PackWeights(view.view(), loaded.program, std::max(1, options.threads), arena.data(), statistics);
  loaded.inexact_weights = statistics.inexact;
  if (options.progress) options.progress("pack", 1.0);
  MK_RETURN_IF_ERROR(Upload(arena, options, *device));
  const std::vector<float> rope =
      RopeTable(view.view().shape.rope, loaded.program.head_dim, loaded.program.max_context);
  MK_RETURN_IF_ERROR(device->UploadRope(rope.data(), rope.size()));
  loaded.device = std::move(device);
  return loaded;
}

absl::StatusOr<std::unique_ptr<Executor>> NewCudaExecutor(const Model& model, const CudaOptions& options) {
  MK_ASSIGN_OR_RETURN(LoadedDevice loaded, LoadCudaDevice(model, options));
  const std::string name = absl::StrCat("cuda: ", loaded.name, ", ", loaded.program.num_blocks, " blocks");
  return NewResidentExecutor(loaded.program, name, std::move(loaded.device), ResidentOptions());
}

}  // namespace megakernel
