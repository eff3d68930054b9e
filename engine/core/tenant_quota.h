// What each tenant may use, and the part of its use that is counted on any thread: places in the queue, tokens a
// second. Sessions and pages are the engine thread's to count (core_quotas.cc).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"

namespace megakernel {

// Unset: no limit of the tenant's own.
struct TenantLimits {
  std::optional<std::int32_t> sessions{};  // that exist
  std::optional<std::int32_t> kv_pages{};  // of idle sessions, and that running and waiting requests may come to need
  std::optional<std::int32_t> queued_requests{};  // that wait for a lane; at least 1
  // Prompt tokens, cached or not, and generated ones. More than 0. A request is refused while the tenant has used up
  // what it was given; one that was accepted runs to its end, and what it takes beyond is made up for by waiting.
  std::optional<double> tokens_per_second{};
  // Tokens that may be saved up while nothing runs. At least 1. Unset: those of one second.
  std::optional<double> burst_tokens{};

  friend bool operator==(const TenantLimits&, const TenantLimits&) = default;
};

// What the requests of one tenant use. Thread-safe, without locks.
class TenantUsage {
 public:
  // Tokens were used; negative: given back. On the path of every token.
  void Spend(std::int64_t tokens) { spent_.fetch_add(tokens, std::memory_order_relaxed); }
  // A request that was admitted by TenantQuotas has left the queue.
  void LeaveQueue() { waiting_.fetch_sub(1, std::memory_order_relaxed); }

 private:
  friend class TenantQuotas;
  std::atomic<std::int64_t> spent_{0};  // since the bucket was looked at
  std::atomic<std::int32_t> waiting_{0};
};

// Thread-safe.
class TenantQuotas {
 public:
  using Limits = absl::flat_hash_map<std::string, TenantLimits>;

  // In force from now on. Tenants without an entry have no limits of their own. Buckets keep what they hold, at most
  // what they may hold now; new ones are full.
  void SetLimits(const Limits& limits);
  TenantLimits LimitsOf(const std::string& tenant) const;

  // A request of `prompt_tokens` wants a place in the queue: charges it, or QUOTA_EXCEEDED. Null when the tenant has no
  // limits; else LeaveQueue and Spend are owed for the request.
  absl::StatusOr<std::shared_ptr<TenantUsage>> Admit(const std::string& tenant, std::int64_t prompt_tokens,
                                                     absl::Time now);

 private:
  struct Tenant {
    TenantLimits limits;
    std::shared_ptr<TenantUsage> usage = std::make_shared<TenantUsage>();
    double balance = 0;  // tokens; negative: a debt
    absl::Time updated = absl::InfinitePast();
  };
  static absl::Status CheckRate(const std::string& name, Tenant& tenant, absl::Time now);

  mutable Mutex mutex_;
  absl::flat_hash_map<std::string, Tenant> tenants_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace megakernel
