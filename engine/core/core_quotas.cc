// EngineCore: how many sessions and pages a tenant may hold.
//
// Pages are counted before anything runs, and for the worst: a request counts with all it may come to need (its
// session, prompt and max_tokens), an idle session with what it holds. So a request that was accepted is never ended
// for its tenant's quota, and one tenant's quota holds up nobody in the queue.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/core/engine_core.h"
#include "kernels/layout/kv_page.h"

namespace megakernel {
namespace {

// Sessions come free when they end or expire, pages when requests end.
constexpr absl::Duration kSessionsDelay = absl::Seconds(5);
constexpr absl::Duration kPagesDelay = absl::Seconds(1);

}  // namespace

TenantLimits EngineCore::LimitsOf(const std::string& tenant) const {
  return options_.quotas == nullptr ? TenantLimits() : options_.quotas->LimitsOf(tenant);
}

absl::StatusOr<Session*> EngineCore::AddSession(std::unique_ptr<Session> session) {
  const std::string& tenant = session->tenant;
  const TenantLimits limits = LimitsOf(tenant);
  if (limits.sessions.has_value()) {
    ExpireSessions();
    const int count = sessions_.CountOf(tenant);
    if (count >= *limits.sessions) {
      return QuotaError(tenant, absl::StrCat("tenant ", tenant, " has ", count, " sessions, the most that it may"),
                        kSessionsDelay);
    }
  }
  return sessions_.Add(std::move(session), now_);
}

std::int32_t EngineCore::TokenLimit(const Generation& generation) const {
  const auto& max_tokens = generation.request.max_tokens;
  return max_tokens.has_value() ? generation.prompt_length + *max_tokens : max_context_;
}

std::int64_t EngineCore::PagesOf(const Generation& generation) const {
  // The last token's key and value are never written.
  const std::int32_t positions = std::max(1, TokenLimit(generation) - 1);
  return std::int64_t{generation.request.n} * layout::PagesFor(positions, cache_.page_tokens());
}

absl::Status EngineCore::CheckPages(const std::string& tenant, std::int64_t pages, const Session* except) {
  const TenantLimits limits = LimitsOf(tenant);
  if (!limits.kv_pages.has_value()) return absl::OkStatus();
  const std::int64_t limit = *limits.kv_pages;
  if (pages > limit) {
    return QuotaError(tenant,
                      absl::StrCat("needs up to ", pages, " KV pages of ", cache_.page_tokens(), " tokens, tenant ",
                                   tenant, " may use ", limit, ": lower max_tokens or the prompt"),
                      absl::InfiniteDuration());
  }
  std::int64_t used = 0;
  for (const auto& [id, generation] : generations_) {
    if (generation->unfinished > 0 && generation->pages_counted && generation->request.tenant == tenant) {
      used += PagesOf(*generation);
    }
  }
  std::vector<Session*> holders;  // idle
  for (Session* const session : sessions_.List(tenant, 0, sessions_.size())) {
    if (session->busy != nullptr || session->sequence.pages().empty() || session == except) continue;
    used += static_cast<std::int64_t>(session->sequence.pages().size());
    holders.push_back(session);
  }
  if (options_.reclaim_idle_sessions && used + pages > limit) {
    std::sort(holders.begin(), holders.end(), [](auto* a, auto* b) { return a->last_used < b->last_used; });
    for (auto holder = holders.begin(); holder != holders.end() && used + pages > limit; ++holder) {
      used -= static_cast<std::int64_t>((*holder)->sequence.pages().size());
      ReclaimFrom(*holder);
    }
  }
  if (used + pages <= limit) return absl::OkStatus();
  return QuotaError(
      tenant,
      absl::StrCat("needs up to ", pages, " KV pages, tenant ", tenant, " may use ", limit, " and holds ", used),
      kPagesDelay);
}

}  // namespace megakernel
