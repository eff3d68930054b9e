#include "server/loading.h"

#include <utility>

#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "server/shutdown.h"
#include "server/warm_up.h"
#include "spdlog/spdlog.h"

namespace megakernel {

Loading::Loading(const ServerOptions& options, Server& server, Clock& clock, TenantQuotas* quotas)
    : thread_([this, &options, &server, &clock, quotas] { Run(options, server, clock, quotas); }) {}

Loading::~Loading() {
  thread_.join();
}

std::optional<absl::Status> Loading::result() const {
  MutexLock lock(&mutex_);
  return result_;
}

void Loading::Run(const ServerOptions& options, Server& server, Clock& clock, TenantQuotas* quotas) {
  absl::Status status = Load(options, server, clock, quotas);
  MutexLock lock(&mutex_);
  result_ = std::move(status);
}

absl::Status Loading::Load(const ServerOptions& options, Server& server, Clock& clock, TenantQuotas* quotas) {
  const absl::Time start = absl::Now();
  const auto on_failure = [&server](const EngineFailure& failure) {
    server.Fail();
    spdlog::critical("executor failed: {}", std::string(failure.status.message()));
    for (const std::string& line : failure.state) spdlog::critical("state {}", line);
    NotifyFailure();
  };
  MK_ASSIGN_OR_RETURN(stack_, BuildServingStack(options, clock, quotas, on_failure));
  const absl::Time warm_up = absl::Now();
  MK_RETURN_IF_ERROR(WarmUp(*stack_->engine));
  const absl::Time ready = absl::Now();
  server.Serve(*stack_->engine, stack_->limits);
  spdlog::info("serving address={} instance={} warm_up_ms={} start_ms={}", server.address(), server.instance_id(),
               absl::ToInt64Milliseconds(ready - warm_up), absl::ToInt64Milliseconds(ready - start));
  return absl::OkStatus();
}

}  // namespace megakernel
