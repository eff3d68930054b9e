#include "engine/cuda/program_plan.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "kernels/host/program_build.h"
#include "kernels/host/program_check.h"

namespace megakernel {
namespace {

constexpr std::int32_t kLargestAutoContext = 32768;
constexpr std::int32_t kFairContext = 4096;  // a shorter one is not worth the SMs that it takes to have it
constexpr std::int32_t kLeastAutoContext = 256;
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

// The contexts to try: what is asked for; or from the model's down, by halves.
std::vector<std::int32_t> Contexts(const ModelConfig& config, std::int32_t asked) {
  if (asked > 0) return {asked};
  std::vector<std::int32_t> contexts = {std::min(config.max_context, kLargestAutoContext)};
  while (contexts.back() / 2 >= kLeastAutoContext) contexts.push_back(contexts.back() / 2);
  return contexts;
}

// On the grid that is asked for; with none asked for, on all SMs with a context of at least kFairContext, else on as
// many blocks as fit with the longest context.
bool Build(const reference::ModelView& view, const ModelConfig& config, const host::DeviceLimits& limits,
           host::ProgramOptions options, layout::Program& program, std::string& error) {
  const std::int32_t asked = options.max_context;
  const std::vector<std::int32_t> contexts = Contexts(config, asked);
  std::string later;
  for (const std::int32_t context : contexts) {
    options.max_context = context;
    const bool fair = context >= std::min(kFairContext, contexts.front());
    if (asked == 0 && options.persistent_blocks == 0 && !fair) break;
    if (host::BuildProgram(view, limits, options, program, error.empty() ? error : later)) return true;
  }
  if (options.persistent_blocks != 0) return false;
  for (const std::int32_t context : contexts) {
    options.max_context = context;
    options.persistent_blocks = host::LargestFittingGrid(view, limits, options);
    if (options.persistent_blocks > 0 && host::BuildProgram(view, limits, options, program, later)) return true;
  }
  return false;
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

}  // namespace

absl::StatusOr<layout::Program> PlanCudaProgram(const reference::ModelView& view, const ModelConfig& config,
                                                const DeviceFacts& facts, const CudaOptions& options) {
  const host::DeviceLimits limits{facts.num_sms, facts.shared_bytes};
  layout::Program program;
  std::string error;
  if (!Build(view, config, limits, ProgramOptionsOf(options), program, error)) {
    return absl::UnimplementedError(absl::StrCat("the GPU kernel cannot run this model: ", error));
  }
  MK_ASSIGN_OR_RETURN(program.num_kv_pages, PagesFor(program, facts, options));
  if (const std::string wrong = host::CheckProgram(program); !wrong.empty()) {
    return absl::InternalError(absl::StrCat("the program for this model is broken: ", wrong));
  }
  return program;
}

}  // namespace megakernel
