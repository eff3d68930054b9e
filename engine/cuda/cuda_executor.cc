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
#include "kernels/host/program_check.h"
#include "kernels/reference/rope.h"

namespace megakernel {
namespace {

constexpr std::int32_t kLargestAutoContext = 32768;
constexpr std::int32_t kLeastAutoContext = 256;
constexpr std::int64_t kUploadPiece = std::int64_t{64} << 20;
// Device memory that is left alone: the driver's own needs, and fragments.
constexpr std::int64_t kReserve = std::int64_t{512} << 20;

host::ProgramOptions ProgramOptionsOf(const CudaOptions& options) {
  host::ProgramOptions program;
  program.persistent_blocks = options.persistent_blocks;
  program.max_lanes = options.max_lanes;
  program.max_context = options.max_context;
  program.page_tokens = options.page_tokens;
  program.num_kv_pages = options.num_pages;
  program.kv_layout = options.kv_layout;
  return program;
}

// Builds with the grid asked for; with none asked for, on the largest that fits.
bool Build(const reference::ModelView& view, const host::DeviceLimits& limits, host::ProgramOptions options,
           layout::Program& program, std::string& error) {
  if (host::BuildProgram(view, limits, options, program, error)) return true;
  if (options.persistent_blocks != 0) return false;
  options.persistent_blocks = host::LargestFittingGrid(view, limits, options);
  std::string ignored;
  return options.persistent_blocks > 0 && host::BuildProgram(view, limits, options, program, ignored);
}

absl::StatusOr<std::int32_t> PagesFor(const layout::Program& p, const DeviceFacts& facts, const CudaOptions& options) {
  const std::int64_t page_bytes = p.kv.PageBytes();
  const std::int64_t fixed = p.weight_bytes + p.workspace.total + std::int64_t{p.max_context} * p.head_dim * 4;
  const std::int64_t available = facts.free_bytes - kReserve - fixed;
  std::int64_t pages = options.num_pages;
  if (pages == 0 && options.kv_bytes > 0) pages = options.kv_bytes / page_bytes;
  if (pages == 0) pages = std::min(available / 2 / page_bytes, std::int64_t{4} * p.max_lanes * p.max_pages);
  pages = std::min<std::int64_t>(pages, INT32_MAX);
  if (pages >= 1 && pages * page_bytes <= available) return static_cast<std::int32_t>(pages);
  return absl::ResourceExhaustedError(
      absl::StrCat("GPU memory: weights and workspace take ", fixed, " bytes, ", std::max<std::int64_t>(pages, 1),
                   " KV pages of ", p.kv.page_tokens, " tokens ", std::max<std::int64_t>(pages, 1) * page_bytes,
                   "; free on ", facts.name, " are ", facts.free_bytes, " bytes, of which ", kReserve, " stay unused"));
}

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

absl::StatusOr<layout::Program> PlanCudaProgram(const reference::ModelView& view, const ModelConfig& config,
                                                const DeviceFacts& facts, const CudaOptions& options) {
  const host::DeviceLimits limits{facts.num_sms, facts.shared_bytes};
  host::ProgramOptions wanted = ProgramOptionsOf(options);
  if (options.max_context == 0) wanted.max_context = std::min(config.max_context, kLargestAutoContext);
  layout::Program program;
  std::string error;
  bool built = Build(view, limits, wanted, program, error);
  while (!built && options.max_context == 0 && wanted.max_context / 2 >= kLeastAutoContext) {
    wanted.max_context /= 2;
    built = Build(view, limits, wanted, program, error);
  }
  if (!built) return absl::UnimplementedError(absl::StrCat("the GPU kernel cannot run this model: ", error));
  MK_ASSIGN_OR_RETURN(program.num_kv_pages, PagesFor(program, facts, options));
  if (const std::string wrong = host::CheckProgram(program); !wrong.empty()) {
    return absl::InternalError(absl::StrCat("the program for this model is broken: ", wrong));
  }
  return program;
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
