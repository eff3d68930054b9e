#include "engine/core/engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/core/engine_loop.h"
#include "engine/text/tokenizer.h"
#include "kernels/layout/plan.h"

namespace megakernel {
namespace {

absl::Status CheckOption(const char* name, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return FieldError(name, absl::StrCat(name, " is ", value, ", must be in [", low, ", ", high, "]"));
}

absl::Status CheckExecutor(const ExecutorInfo& info, const Model& model) {
  MK_RETURN_IF_ERROR(CheckOption("executor.max_lanes", info.max_lanes, 1, layout::kMaxLanes));
  MK_RETURN_IF_ERROR(CheckOption("executor.max_rows", info.max_rows, 1, layout::kMaxRows));
  MK_RETURN_IF_ERROR(CheckOption("executor.page_tokens", info.page_tokens, 1, 1 << 20));
  MK_RETURN_IF_ERROR(CheckOption("executor.num_pages", info.num_pages, 1, 1 << 28));
  if (info.vocab == model.tokenizer().vocab()) return absl::OkStatus();
  return FieldError("executor.vocab", absl::StrCat("executor.vocab is ", info.vocab, ", the tokenizer has ",
                                                   model.tokenizer().vocab(), " tokens"));
}

absl::Status CheckOptions(const EngineOptions& options, const ExecutorInfo& info) {
  MK_RETURN_IF_ERROR(CheckOption("max_queue", options.max_queue, 1, 1 << 20));
  MK_RETURN_IF_ERROR(CheckOption("max_sessions", options.max_sessions, 0, 1 << 24));
  MK_RETURN_IF_ERROR(CheckOption("stream_buffer", options.stream_buffer, 1, 1 << 24));
  MK_RETURN_IF_ERROR(CheckOption("prompt_rows_busy", options.prompt_rows_busy, 0, info.max_rows));
  if (options.session_ttl < kMinSessionTtl || options.session_ttl > kMaxSessionTtl) {
    return FieldError("session_ttl", absl::StrCat("session_ttl is ", absl::FormatDuration(options.session_ttl),
                                                  ", must be in [", absl::FormatDuration(kMinSessionTtl), ", ",
                                                  absl::FormatDuration(kMaxSessionTtl), "]"));
  }
  if (options.stall_timeout > absl::ZeroDuration() && options.park_after >= absl::ZeroDuration()) {
    return absl::OkStatus();
  }
  return FieldError("stall_timeout", "stall_timeout must be positive and park_after not negative");
}

// Tokens of one sequence that model, executor and pages allow.
absl::StatusOr<std::int32_t> Context(const EngineOptions& options, const ExecutorInfo& info, const Model& model) {
  std::int64_t most = std::min(info.max_context, model.config().max_context);
  most = std::min(most, std::int64_t{info.num_pages} * info.page_tokens);
  MK_RETURN_IF_ERROR(CheckOption("max_context", options.max_context, 0, most));
  return static_cast<std::int32_t>(options.max_context == 0 ? most : options.max_context);
}

absl::Status SetPolicyOf(const EngineOptions& options, Executor& executor) {
  const std::int32_t max_rows = executor.info().max_rows;
  layout::Policy policy;
  policy.max_rows = max_rows;
  policy.prompt_rows_idle = max_rows;
  policy.prompt_rows_busy =
      options.prompt_rows_busy > 0 ? options.prompt_rows_busy : std::min(max_rows, std::max(16, max_rows / 4));
  return executor.Submit(SetPolicy{policy});
}

// Calls `done` at once when the task could not be posted.
template <typename Callback, typename Operation>
void PostOperation(EngineLoop& loop, Callback done, Operation operation) {
  // Shared between the task and the refusal: only one of the two happens.
  auto shared = std::make_shared<Callback>(std::move(done));
  const absl::Status status = loop.Post([shared, operation = std::move(operation)](EngineCore& core) mutable {
    if (!core.failure().ok()) {
      (*shared)(core.failure());
    } else {
      operation(core, std::move(*shared));
    }
  });
  if (!status.ok()) (*shared)(status);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options, const Model* model,
                                                       std::unique_ptr<Executor> executor, Clock* clock) {
  MK_RETURN_IF_ERROR(CheckExecutor(executor->info(), *model));
  MK_RETURN_IF_ERROR(CheckOptions(options, executor->info()));
  MK_ASSIGN_OR_RETURN(const std::int32_t max_context, Context(options, executor->info(), *model));
  MK_RETURN_IF_ERROR(SetPolicyOf(options, *executor));
  auto loop = std::make_unique<EngineLoop>(options, max_context, model, std::move(executor), clock);
  return std::unique_ptr<Engine>(new Engine(std::move(loop)));
}

Engine::Engine(std::unique_ptr<EngineLoop> loop) : loop_(std::move(loop)) {}
Engine::~Engine() = default;

absl::StatusOr<std::shared_ptr<TokenStream>> Engine::Generate(GenerateRequest request) {
  return loop_->Generate(std::move(request));
}

void Engine::CreateSession(std::string tenant, std::optional<absl::Duration> idle_ttl, SessionCallback done) {
  if (loop_->draining()) return done(EngineLoop::DrainingError());
  PostOperation(*loop_, std::move(done),
                [tenant = std::move(tenant), idle_ttl](EngineCore& core, SessionCallback done) {
                  done(core.CreateSession(tenant, idle_ttl));
                });
}

void Engine::GetSession(std::string tenant, std::string id, bool include_tokens, SessionCallback done) {
  PostOperation(*loop_, std::move(done),
                [tenant = std::move(tenant), id = std::move(id), include_tokens](
                    EngineCore& core, SessionCallback done) { done(core.GetSession(tenant, id, include_tokens)); });
}

void Engine::ListSessions(std::string tenant, int page_size, std::string page_token, SessionPageCallback done) {
  PostOperation(
      *loop_, std::move(done),
      [tenant = std::move(tenant), page_size, page_token = std::move(page_token)](
          EngineCore& core, SessionPageCallback done) { done(core.ListSessions(tenant, page_size, page_token)); });
}

void Engine::ForkSession(std::string tenant, std::string id, std::optional<std::int32_t> length,
                         std::optional<absl::Duration> idle_ttl, SessionCallback done) {
  if (loop_->draining()) return done(EngineLoop::DrainingError());
  PostOperation(*loop_, std::move(done),
                [tenant = std::move(tenant), id = std::move(id), length, idle_ttl](
                    EngineCore& core, SessionCallback done) { done(core.ForkSession(tenant, id, length, idle_ttl)); });
}

void Engine::RollbackSession(std::string tenant, std::string id, std::int32_t length, SessionCallback done) {
  PostOperation(*loop_, std::move(done),
                [tenant = std::move(tenant), id = std::move(id), length](EngineCore& core, SessionCallback done) {
                  done(core.RollbackSession(tenant, id, length));
                });
}

void Engine::DeleteSession(std::string tenant, std::string id, SessionCallback done) {
  PostOperation(*loop_, std::move(done),
                [tenant = std::move(tenant), id = std::move(id)](EngineCore& core, SessionCallback done) {
                  core.DeleteSession(tenant, id, std::move(done));
                });
}

void Engine::Drain() {
  loop_->Drain();
}
bool Engine::WaitIdle(absl::Duration timeout) {
  return loop_->WaitIdle(timeout);
}
void Engine::Shutdown(absl::Duration grace) {
  loop_->Shutdown(grace);
}
absl::Status Engine::Health() const {
  return loop_->Health();
}
EngineStats Engine::Stats() const {
  return loop_->Stats();
}
const EngineMetrics& Engine::metrics() const {
  return loop_->metrics();
}
const ExecutorInfo& Engine::info() const {
  return loop_->info();
}
void Engine::ExportSession(std::string tenant, std::string id, SessionImageCallback done) {
  PostOperation(*loop_, std::move(done),
                [tenant = std::move(tenant), id = std::move(id)](EngineCore& core, SessionImageCallback done) {
                  core.ExportSession(tenant, id, std::move(done));
                });
}

void Engine::ImportSession(std::string tenant, SessionImage image, std::optional<absl::Duration> idle_ttl,
                           SessionCallback done) {
  if (loop_->draining()) return done(EngineLoop::DrainingError());
  PostOperation(
      *loop_, std::move(done),
      [tenant = std::move(tenant), image = std::move(image), idle_ttl](EngineCore& core, SessionCallback done) mutable {
        done(core.ImportSession(tenant, std::move(image), idle_ttl));
      });
}

ImageFormat Engine::image_format(const std::string& tenant) const {
  return ImageFormatFor(model(), info(), tenant);
}

const Model& Engine::model() const {
  return loop_->model();
}
std::int32_t Engine::max_context() const {
  return loop_->max_context();
}
void Engine::Wake() {
  loop_->Wake();
}

}  // namespace megakernel
