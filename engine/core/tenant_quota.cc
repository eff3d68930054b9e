#include "engine/core/tenant_quota.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/core/error.h"

namespace megakernel {
namespace {

// The queue moves with every request that is admitted.
constexpr absl::Duration kQueueDelay = absl::Milliseconds(100);

double Capacity(const TenantLimits& limits) {
  return limits.burst_tokens.value_or(std::max(1.0, *limits.tokens_per_second));
}

}  // namespace

void TenantQuotas::SetLimits(const Limits& limits) {
  MutexLock lock(&mutex_);
  absl::flat_hash_map<std::string, Tenant> tenants;
  for (const auto& [name, limit] : limits) {
    Tenant& tenant = tenants[name];
    const auto before = tenants_.find(name);
    if (before != tenants_.end()) tenant = before->second;
    if (!limit.tokens_per_second.has_value() || !tenant.limits.tokens_per_second.has_value()) {
      tenant.updated = absl::InfinitePast();  // full when it is looked at
    }
    tenant.limits = limit;
  }
  tenants_ = std::move(tenants);
}

TenantLimits TenantQuotas::LimitsOf(const std::string& tenant) const {
  MutexLock lock(&mutex_);
  const auto found = tenants_.find(tenant);
  return found == tenants_.end() ? TenantLimits() : found->second.limits;
}

absl::Status TenantQuotas::CheckRate(const std::string& name, Tenant& tenant, absl::Time now) {
  const std::int64_t spent = tenant.usage->spent_.exchange(0, std::memory_order_relaxed);
  if (!tenant.limits.tokens_per_second.has_value()) return absl::OkStatus();
  const double rate = *tenant.limits.tokens_per_second;
  const double capacity = Capacity(tenant.limits);
  if (tenant.updated == absl::InfinitePast()) {
    tenant.balance = capacity;
  } else {
    const double earned = rate * absl::ToDoubleSeconds(std::max(absl::ZeroDuration(), now - tenant.updated));
    tenant.balance = std::min(capacity, tenant.balance - static_cast<double>(spent) + earned);
  }
  tenant.updated = now;
  if (tenant.balance >= 1) return absl::OkStatus();
  return QuotaError(
      name,
      absl::StrCat("tenant ", name, " has used its ", rate, " tokens a second, and ", -tenant.balance, " beyond them"),
      absl::Seconds((1 - tenant.balance) / rate));
}

absl::StatusOr<std::shared_ptr<TenantUsage>> TenantQuotas::Admit(const std::string& name, std::int64_t prompt_tokens,
                                                                 absl::Time now) {
  MutexLock lock(&mutex_);
  const auto found = tenants_.find(name);
  if (found == tenants_.end()) return nullptr;
  Tenant& tenant = found->second;
  MK_RETURN_IF_ERROR(CheckRate(name, tenant, now));
  const std::int32_t waiting = tenant.usage->waiting_.load(std::memory_order_relaxed);
  if (tenant.limits.queued_requests.has_value() && waiting >= *tenant.limits.queued_requests) {
    return QuotaError(name, absl::StrCat(waiting, " requests of tenant ", name, " are waiting, the most that may"),
                      kQueueDelay);
  }
  tenant.usage->waiting_.fetch_add(1, std::memory_order_relaxed);
  tenant.usage->Spend(prompt_tokens);
  return tenant.usage;
}

}  // namespace megakernel
