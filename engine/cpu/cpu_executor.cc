#include "engine/cpu/cpu_executor.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/forward.h"
#include "engine/cpu/lanes.h"
#include "engine/cpu/mailbox.h"
#include "engine/cpu/processor_count.h"
#include "engine/cpu/sampler.h"
#include "engine/executor/command_check.h"

namespace megakernel {
namespace cpu {
namespace {

constexpr std::int64_t kDefaultKvBytes = std::int64_t{1} << 30;
constexpr std::int32_t kMaxThreads = 256;
constexpr std::int32_t kMaxPageTokens = 4096;
constexpr std::int32_t kMaxLogprobs = 128;

// Everything that the executor's thread works with, in the order of construction.
struct Parts {
  const KernelTable* kernels = nullptr;
  ExecutorInfo info;
  std::unique_ptr<ThreadTeam> team;
  std::unique_ptr<PackedModel> packed;
  std::unique_ptr<KvStore> kv;
  std::unique_ptr<Forward> forward;
  bool poison = false;
};

class CpuExecutor final : public Executor {
 public:
  explicit CpuExecutor(Parts parts);
  ~CpuExecutor() override;

  const ExecutorInfo& info() const override { return parts_.info; }
  absl::Status Submit(Command command) override;
  void Drain(std::vector<Event>& events) override;
  void Wait(absl::Duration timeout) override { mailbox_.WaitForEvents(timeout); }
  void Notify() override { mailbox_.Notify(); }
  std::uint64_t Heartbeat() const override { return steps_.load(std::memory_order_relaxed) + parts_.team->Progress(); }
  absl::Status Health() const override;

 private:
  void Loop();
  // False after Stop.
  bool Obey(Command& command);
  bool RunStep();
  void Choose(Worker& worker, std::size_t first, std::size_t count);
  void ChooseRow(Sampler& sampler, std::vector<float>& copy, float* logits, LogitRow& row);
  void Fail(absl::Status status);
  void Read(const ReadPages& read);

  Parts parts_;
  // The engine's thread.
  CommandCheck check_;
  bool stop_sent_ = false;

  Mailbox mailbox_;
  std::atomic<std::uint64_t> steps_{0};
  mutable std::mutex health_mutex_;
  absl::Status health_;  // guarded by health_mutex_

  // The executor's thread and, inside a step, its team.
  Lanes lanes_;
  std::vector<Command> commands_;
  std::vector<Event> events_;
  Batch batch_;
  std::vector<LogitRow> logit_rows_;
  std::vector<std::int32_t> row_indices_;
  std::vector<std::unique_ptr<Sampler>> samplers_;  // one a member
  std::vector<std::vector<float>> copies_;          // one a member
  bool failed_ = false;
  std::thread thread_;
};

CpuExecutor::CpuExecutor(Parts parts)
    : parts_(std::move(parts)),
      check_(parts_.info),
      lanes_(parts_.info.max_lanes, parts_.info.max_rows, parts_.info.page_tokens),
      copies_(static_cast<std::size_t>(parts_.team->size())) {
  for (int i = 0; i < parts_.team->size(); ++i) {
    samplers_.push_back(std::make_unique<Sampler>(*parts_.kernels, parts_.info.vocab));
  }
  thread_ = std::thread([this] { Loop(); });
}

CpuExecutor::~CpuExecutor() {
  if (!stop_sent_) mailbox_.Send(Stop{});
  thread_.join();
}

absl::Status CpuExecutor::Submit(Command command) {
  if (stop_sent_) return absl::UnavailableError("the executor has stopped");
  const bool is_stop = std::holds_alternative<Stop>(command);
  if (!is_stop) {
    if (absl::Status health = Health(); !health.ok()) return absl::UnavailableError(health.message());
    MK_RETURN_IF_ERROR(check_.Check(command));
  }
  stop_sent_ = is_stop;
  mailbox_.Send(std::move(command));
  return absl::OkStatus();
}

void CpuExecutor::Drain(std::vector<Event>& events) {
  const std::size_t before = events.size();
  mailbox_.Drain(events);
  for (std::size_t i = before; i < events.size(); ++i) check_.Note(events[i]);
}

absl::Status CpuExecutor::Health() const {
  std::lock_guard<std::mutex> lock(health_mutex_);
  return health_;
}

void CpuExecutor::Loop() {
  bool idle = true;
  for (;;) {
    mailbox_.TakeCommands(idle, commands_);
    for (Command& command : commands_) {
      if (!Obey(command)) return;
    }
    idle = failed_ || !RunStep();
    mailbox_.Publish(events_);
  }
}

bool CpuExecutor::Obey(Command& command) {
  KvStore* poison = parts_.poison ? parts_.kv.get() : nullptr;
  if (auto* admit = std::get_if<Admit>(&command)) {
    lanes_.Start(std::move(*admit), poison, events_);
    if (failed_) lanes_.EndAll(FinishCause::kFailed, events_);
  } else if (auto* grant = std::get_if<GrantPages>(&command)) {
    lanes_.Grant(*grant, poison);
  } else if (auto* cancel = std::get_if<Cancel>(&command)) {
    lanes_.End(*cancel, events_);
  } else if (auto* copy = std::get_if<CopyPage>(&command)) {
    parts_.kv->CopyPage(copy->source, copy->target);
  } else if (auto* read = std::get_if<ReadPages>(&command)) {
    Read(*read);
  } else if (auto* write = std::get_if<WritePages>(&command)) {
    const std::byte* bytes = write->bytes.data();
    for (const PageId page : write->pages) {
      const std::span<std::byte> target = parts_.kv->Page(page);
      std::memcpy(target.data(), bytes, target.size());
      bytes += target.size();
    }
  } else if (auto* set = std::get_if<SetPolicy>(&command)) {
    lanes_.SetPolicy(set->policy);
  } else if (std::holds_alternative<Stop>(command)) {
    lanes_.EndAll(FinishCause::kCancelled, events_);
    Event stopped;
    stopped.type = EventType::kStopped;
    events_.push_back(std::move(stopped));
    mailbox_.Publish(events_);
    return false;
  }
  return true;  // Park: an idle executor sleeps anyway
}

void CpuExecutor::Read(const ReadPages& read) {
  Event event;
  event.type = EventType::kPages;
  event.pages = std::make_unique<PageBytes>(PageBytes{.ticket = read.ticket, .bytes = {}});
  for (const PageId page : read.pages) {
    const std::span<const std::byte> bytes = parts_.kv->Page(page);
    event.pages->bytes.insert(event.pages->bytes.end(), bytes.begin(), bytes.end());
  }
  events_.push_back(std::move(event));
}

bool CpuExecutor::RunStep() {
  if (!lanes_.Plan(batch_, logit_rows_, events_)) return false;
  mailbox_.Publish(events_);  // kStarted comes before the step
  row_indices_.clear();
  for (const LogitRow& row : logit_rows_) row_indices_.push_back(row.row);
  parts_.forward->Begin(batch_);
  parts_.team->Run([this](Worker& worker) {
    parts_.forward->RunLayers(worker);
    for (std::size_t first = 0; first < row_indices_.size(); first += kLogitRows) {
      const std::size_t count = std::min<std::size_t>(kLogitRows, row_indices_.size() - first);
      parts_.forward->Logits(worker, std::span(row_indices_).subspan(first, count));
      Choose(worker, first, count);
    }
  });
  steps_.fetch_add(1, std::memory_order_relaxed);
  for (const LogitRow& row : logit_rows_) {
    if (row.finite) continue;
    Fail(absl::InternalError(absl::StrCat("logits of lane ", row.lane, " at position ", row.position,
                                          " are not finite: the weights or the KV cache are damaged")));
    return false;
  }
  lanes_.Commit(logit_rows_, events_);
  return true;
}

void CpuExecutor::Choose(Worker& worker, std::size_t first, std::size_t count) {
  for (int i, taken; worker.Take(static_cast<int>(count), 1, i, taken);) {
    ChooseRow(*samplers_[worker.index()], copies_[worker.index()], parts_.forward->LogitsOf(i), logit_rows_[first + i]);
  }
  worker.Barrier();
}

void CpuExecutor::ChooseRow(Sampler& sampler, std::vector<float>& copy, float* logits, LogitRow& row) {
  const Lanes::Sequence& sequence = lanes_.sequence(row.lane);
  const SamplingParams& params = sequence.sampling;
  float* adjusted = logits;
  if (params.logprobs >= 0 || row.prompt_logprob) {  // Sample overwrites what logprobs are made of
    copy.assign(logits, logits + parts_.info.vocab);
    adjusted = copy.data();
  }
  if (!sampler.AllFinite(logits)) return;
  row.finite = true;
  if (row.prompt_logprob) {
    row.prompt_logprobs = sampler.LogprobsOf(logits, sequence.tokens[row.position], params.prompt_logprobs);
  }
  if (!row.samples) return;
  row.token = sampler.Sample(adjusted, {&params, &sequence.counts, sequence.num_output(), row.position});
  if (params.logprobs >= 0) row.logprobs = sampler.LogprobsOf(logits, row.token, params.logprobs);
}

void CpuExecutor::Fail(absl::Status status) {
  {
    std::lock_guard<std::mutex> lock(health_mutex_);
    health_ = std::move(status);
  }
  failed_ = true;
  lanes_.EndAll(FinishCause::kFailed, events_);
}

absl::Status CheckOption(const char* name, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("CPU executor: ", name, " is ", value, ", not in [", low, ", ", high, "]"));
}

absl::Status CheckOptions(const ModelConfig& config, const CpuOptions& options) {
  MK_RETURN_IF_ERROR(CheckOption("threads", options.threads, 0, kMaxThreads));
  MK_RETURN_IF_ERROR(CheckOption("max_lanes", options.max_lanes, 1, layout::kMaxLanes));
  MK_RETURN_IF_ERROR(CheckOption("max_rows", options.max_rows, 1, layout::kMaxRows));
  MK_RETURN_IF_ERROR(CheckOption("max_context", options.max_context, 0, config.max_context));
  MK_RETURN_IF_ERROR(CheckOption("page_tokens", options.page_tokens, 1, kMaxPageTokens));
  MK_RETURN_IF_ERROR(CheckOption("num_pages", options.num_pages, 0, INT32_MAX));
  return CheckOption("kv_bytes", options.kv_bytes, 0, INT64_MAX);
}

layout::KvGeometry GeometryFor(const ModelConfig& config, const CpuOptions& options) {
  layout::KvGeometry geometry;
  geometry.num_layers = config.num_layers;
  geometry.num_kv_heads = config.num_kv_heads;
  geometry.head_dim = config.head_dim;
  geometry.page_tokens = options.page_tokens;
  const bool fp32 = options.kv_type == CpuKvType::kFp32 ||
                    (options.kv_type == CpuKvType::kDefault && options.precision == CpuPrecision::kFp32);
  geometry.element_bytes = fp32 ? 4 : 2;
  return geometry;
}

absl::StatusOr<std::int32_t> PagesFor(const CpuOptions& options, std::int64_t page_bytes, std::int32_t max_context) {
  if (options.num_pages > 0) return options.num_pages;
  std::int64_t bytes = options.kv_bytes;
  if (bytes == 0) {
    bytes = std::min(kDefaultKvBytes, 4 * page_bytes * layout::PagesFor(max_context, options.page_tokens));
  }
  if (bytes < page_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("CPU executor: kv_bytes is ", bytes, ", less than one page of ", page_bytes, " bytes"));
  }
  return static_cast<std::int32_t>(std::min<std::int64_t>(bytes / page_bytes, INT32_MAX));
}

absl::StatusOr<ExecutorInfo> InfoFor(const ModelConfig& config, const CpuOptions& options,
                                     const layout::KvGeometry& geometry) {
  ExecutorInfo info;
  info.max_lanes = options.max_lanes;
  info.max_rows = options.max_rows;
  info.max_context = options.max_context == 0 ? config.max_context : options.max_context;
  info.vocab = config.vocab;
  info.page_tokens = options.page_tokens;
  info.page_bytes = geometry.PageBytes();
  MK_ASSIGN_OR_RETURN(info.num_pages, PagesFor(options, info.page_bytes, info.max_context));
  info.kv_type = geometry.element_bytes == 4 ? "fp32" : "fp16";
  // The arithmetic counts: keys of another one would give other tokens.
  info.page_format = absl::StrCat("cpu ", options.precision == CpuPrecision::kFp32 ? "fp32" : "int16", ", keys ",
                                  info.kv_type, " transposed, ", geometry.num_layers, " x ", geometry.num_kv_heads,
                                  " x ", geometry.head_dim, " x ", geometry.page_tokens);
  info.features = (1u << static_cast<std::uint32_t>(Feature::kNumFeatures)) - 1;
  info.max_logprobs = std::min(kMaxLogprobs, config.vocab);
  return info;
}

}  // namespace
}  // namespace cpu

absl::StatusOr<std::unique_ptr<Executor>> NewCpuExecutor(const Model& model, const CpuOptions& options) {
  MK_RETURN_IF_ERROR(cpu::CheckOptions(model.config(), options));
  cpu::Parts parts;
  MK_ASSIGN_OR_RETURN(parts.kernels, cpu::KernelsFor(options.isa));
  const layout::KvGeometry geometry = cpu::GeometryFor(model.config(), options);
  MK_ASSIGN_OR_RETURN(parts.info, cpu::InfoFor(model.config(), options, geometry));
  const int threads = options.threads == 0 ? cpu::UsableProcessors() : options.threads;
  parts.team = std::make_unique<cpu::ThreadTeam>(threads);
  const bool as_float = options.precision == CpuPrecision::kFp32;
  MK_ASSIGN_OR_RETURN(cpu::PackedModel packed, cpu::PackedModel::Pack(model, as_float, *parts.team, options.progress));
  parts.packed = std::make_unique<cpu::PackedModel>(std::move(packed));
  MK_ASSIGN_OR_RETURN(cpu::KvStore kv, cpu::KvStore::Create(geometry, parts.info.num_pages));
  parts.kv = std::make_unique<cpu::KvStore>(std::move(kv));
  MK_ASSIGN_OR_RETURN(parts.forward, cpu::Forward::Create(model, *parts.packed, *parts.kernels, *parts.kv,
                                                          {.max_rows = parts.info.max_rows,
                                                           .max_context = parts.info.max_context,
                                                           .num_threads = threads}));
  parts.info.weight_bytes = parts.packed->weight_bytes();
  parts.info.device = absl::StrCat("cpu: ", parts.kernels->name, ", ", threads, threads == 1 ? " thread" : " threads");
  parts.poison = options.poison;
  return std::unique_ptr<Executor>(std::make_unique<cpu::CpuExecutor>(std::move(parts)));
}

}  // namespace megakernel
