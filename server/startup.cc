#include "server/startup.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/cpu_executor.h"
#include "engine/cpu/processor_count.h"
#include "engine/executor/fake_executor.h"
#include "engine/model/family.h"
#include "kernels/layout/kv_page.h"
#include "server/byte_model.h"
#include "server/load_log.h"
#include "server/memory_budget.h"
#include "server/option_values.h"
#include "server/weight_summary.h"
#include "spdlog/spdlog.h"
#if defined(MEGAKERNEL_CUDA)
#include "engine/cuda/cuda_executor.h"
#endif

namespace megakernel {
namespace {

constexpr std::int32_t kFakeContext = 32768;
// The fake keeps a few bytes per token, no keys and values: enough pages for every sequence in full.
constexpr std::int32_t kFakeMaxPages = 1 << 16;

LoadProgress ProgressOf(LoadLog& load) {
  return [&load](const char* stage, std::int64_t done, std::int64_t total) { load.Bytes(stage, done, total); };
}

absl::StatusOr<std::unique_ptr<Model>> OpenModel(const ServerOptions& options, const LoadProgress& progress) {
  if (options.model_path.empty()) return NewByteModel(options.max_context > 0 ? options.max_context : kFakeContext);
  const absl::Time start = absl::Now();
  MK_ASSIGN_OR_RETURN(std::unique_ptr<Model> model, LoadModel(options.model_path, progress));
  const ModelConfig& config = model->config();
  spdlog::info(
      "model name=\"{}\" family={} layers={} hidden={} q_heads={} kv_heads={} head_dim={} ffn={} vocab={} context={}",
      config.name, FactsOf(config.family).name, config.num_layers, config.hidden, config.num_q_heads,
      config.num_kv_heads, config.head_dim, config.ffn, config.vocab, config.max_context);
  spdlog::info("model file=\"{}\" tensors=\"{}\" types=\"{}\" tokenizer={} chat_template={} identity={:.12} open_ms={}",
               options.model_path, HumanBytes(model->weight_bytes()), TensorTypeCounts(model->weights()),
               model->has_tokenizer(), model->chat_template() != nullptr, model->identity(),
               absl::ToInt64Milliseconds(absl::Now() - start));
  return model;
}

std::int32_t ContextOf(const ServerOptions& options, const Model& model) {
  return options.max_context > 0 ? static_cast<std::int32_t>(options.max_context) : model.config().max_context;
}

absl::StatusOr<std::unique_ptr<Executor>> MakeFake(const ServerOptions& options, const Model& model) {
  FakeOptions fake;
  fake.max_lanes = static_cast<std::int32_t>(options.max_sequences);
  fake.max_rows = static_cast<std::int32_t>(options.max_rows);
  fake.max_context = ContextOf(options, model);
  fake.vocab = model.config().vocab;
  fake.first_token = options.model_path.empty() ? kByteModelFirstWord : 0;
  fake.page_tokens = static_cast<std::int32_t>(options.page_tokens);
  const std::int64_t pages = options.max_sequences * layout::PagesFor(fake.max_context, fake.page_tokens);
  fake.num_pages = static_cast<std::int32_t>(std::min<std::int64_t>(pages, kFakeMaxPages));
  fake.step_time = options.fake_step_time;
  fake.stall_after_steps = static_cast<std::uint64_t>(options.fake_stall_after);
  return std::make_unique<FakeExecutor>(std::move(fake));
}

absl::StatusOr<std::unique_ptr<Executor>> MakeCpu(const ServerOptions& options, const Model& model,
                                                  const LoadProgress& progress) {
  CpuOptions cpu;
  cpu.progress = progress;
  const bool fp32 = options.precision == "fp32";
  MK_ASSIGN_OR_RETURN(cpu.isa, ParseCpuIsa(options.cpu_isa));
  cpu.precision = fp32 ? CpuPrecision::kFp32 : CpuPrecision::kInt16;
  cpu.threads = static_cast<std::int32_t>(options.threads);
  cpu.max_lanes = static_cast<std::int32_t>(options.max_sequences);
  cpu.max_rows = static_cast<std::int32_t>(options.max_rows);
  cpu.max_context = ContextOf(options, model);
  cpu.page_tokens = static_cast<std::int32_t>(options.page_tokens);

  MemoryRequest memory;
  memory.weight_bytes = fp32 ? Fp32WeightBytes(model) : model.weight_bytes();
  memory.kv_bytes_per_token = KvBytesPerToken(model.config(), fp32 ? 4 : 2);
  memory.max_context = cpu.max_context;
  memory.max_sequences = cpu.max_lanes;
  memory.kv_memory = options.kv_memory;
  const std::int64_t available = AvailableMemory("");
  MK_ASSIGN_OR_RETURN(cpu.kv_bytes, KvBudget(memory, available));
  const std::int64_t page_bytes = memory.kv_bytes_per_token * cpu.page_tokens;
  if (cpu.kv_bytes < page_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("--kv-memory ", HumanBytes(cpu.kv_bytes),
                                                     " does not hold one page: ", cpu.page_tokens, " tokens need ",
                                                     HumanBytes(page_bytes)));
  }
  const absl::Time start = absl::Now();
  auto executor = NewCpuExecutor(model, cpu);
  if (executor.ok()) {
    spdlog::info("executor device=\"{}\" available=\"{}\" pack_ms={}", (*executor)->info().device,
                 HumanBytes(available), absl::ToInt64Milliseconds(absl::Now() - start));
  }
  return executor;
}

#if defined(MEGAKERNEL_CUDA)
// Rows of a step: more lanes would take turns.
constexpr std::int64_t kCudaLanes = 8;

absl::StatusOr<std::unique_ptr<Executor>> MakeCuda(const ServerOptions& options, const Model& model, LoadLog& load) {
  if (options.precision != "default") {
    return absl::InvalidArgumentError(
        absl::StrCat("--precision ", options.precision, ": the GPU executor has only the default; use --device cpu"));
  }
  CudaOptions cuda;
  cuda.max_lanes = static_cast<std::int32_t>(std::min(options.max_sequences, kCudaLanes));
  cuda.max_context = static_cast<std::int32_t>(options.max_context);
  cuda.page_tokens = static_cast<std::int32_t>(options.page_tokens);
  cuda.kv_bytes = options.kv_memory;
  cuda.persistent_blocks = static_cast<std::int32_t>(options.persistent_blocks);
  cuda.kv_layout = options.kv_layout == "token-major" ? layout::KvLayout::kTokenMajor : layout::KvLayout::kHeadMajor;
  cuda.threads = options.threads > 0 ? static_cast<int>(options.threads) : cpu::UsableProcessors();
  cuda.progress = [&load](const char* stage, double share) { load.Share(stage, share); };
  const absl::Time start = absl::Now();
  auto executor = NewCudaExecutor(model, cuda);
  if (executor.ok()) {
    spdlog::info("executor device=\"{}\" load_ms={}", (*executor)->info().device,
                 absl::ToInt64Milliseconds(absl::Now() - start));
  }
  return executor;
}
#endif

absl::StatusOr<std::unique_ptr<Executor>> MakeExecutor(const ServerOptions& options, const std::string& device,
                                                       const Model& model, LoadLog& load) {
  if (device == "fake") return MakeFake(options, model);
#if defined(MEGAKERNEL_CUDA)
  if (device == "cuda") {
    auto executor = MakeCuda(options, model, load);
    if (executor.ok() || options.device == "cuda") return executor;
    spdlog::warn("device taken=cpu reason=\"{}\"", std::string(executor.status().message()));
  }
#endif
  return MakeCpu(options, model, ProgressOf(load));
}

void LogBudget(const ExecutorInfo& info, std::int32_t max_context) {
  const std::int64_t tokens = std::int64_t{info.num_pages} * info.page_tokens;
  spdlog::info("memory weights=\"{}\" kv=\"{}\" kv_type={} pages={} page_tokens={} tokens={} max_context={} lanes={}",
               HumanBytes(info.weight_bytes), HumanBytes(info.num_pages * info.page_bytes), info.kv_type,
               info.num_pages, info.page_tokens, tokens, max_context, info.max_lanes);
}

}  // namespace

absl::StatusOr<DeviceChoice> ChooseDevice(const std::string& device) {
  if (device != "cuda" && device != "auto") return DeviceChoice{device, "asked for"};
#if defined(MEGAKERNEL_CUDA)
  const absl::StatusOr<DeviceFacts> facts = FindCudaDevice(0);
  if (facts.ok()) return DeviceChoice{"cuda", device == "cuda" ? "asked for" : facts->name};
  const std::string cause(facts.status().message());
  if (device == "cuda") return absl::FailedPreconditionError(absl::StrCat("--device cuda: ", cause));
  spdlog::warn("no GPU is used: {}", cause);
  return DeviceChoice{"cpu", cause};
#else
  if (device == "auto") return DeviceChoice{"cpu", "this build has no CUDA executor"};
  return absl::InvalidArgumentError(
      "--device cuda: this build has no CUDA executor; use --device cpu, or a build with -DMEGAKERNEL_CUDA=ON");
#endif
}

absl::StatusOr<ServingStack> BuildServingStack(const ServerOptions& options, Clock& clock, TenantQuotas* quotas,
                                               std::function<void(const EngineFailure&)> on_failure) {
  MK_ASSIGN_OR_RETURN(const DeviceChoice choice, ChooseDevice(options.device));
  spdlog::info("device asked={} taken={} reason=\"{}\"", options.device, choice.device, choice.reason);
  LoadLog load(clock, [](const std::string& line) { spdlog::info("{}", line); });
  ServingStack stack;
  MK_ASSIGN_OR_RETURN(stack.model, OpenModel(options, ProgressOf(load)));
  MK_ASSIGN_OR_RETURN(std::unique_ptr<Executor> executor, MakeExecutor(options, choice.device, *stack.model, load));

  EngineOptions engine;
  engine.max_queue = static_cast<int>(options.max_queue);
  engine.max_sessions = static_cast<int>(options.max_sessions);
  engine.session_ttl = options.session_ttl;
  engine.max_context = static_cast<std::int32_t>(options.max_context);
  engine.stream_buffer = static_cast<int>(options.stream_buffer);
  engine.prompt_rows_busy = static_cast<std::int32_t>(options.prompt_rows_busy);
  engine.stall_timeout = options.stall_timeout;
  engine.share_across_tenants = options.share_across_tenants;
  engine.quotas = quotas;
  engine.on_failure = std::move(on_failure);
  MK_ASSIGN_OR_RETURN(stack.engine, Engine::Create(engine, stack.model.get(), std::move(executor), &clock));
  stack.limits = {
      .max_context = stack.engine->max_context(), .max_queue = engine.max_queue, .max_sessions = engine.max_sessions};
  LogBudget(stack.engine->info(), stack.engine->max_context());
  return stack;
}

}  // namespace megakernel
