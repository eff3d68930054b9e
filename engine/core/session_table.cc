#include "engine/core/session_table.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/check.h"
#include "engine/core/error.h"

namespace megakernel {
namespace {

// Expired ids that are remembered.
constexpr std::size_t kMaxExpired = 4096;

}  // namespace

std::string NewSessionId() {
  thread_local std::random_device device;  // the system's generator
  std::string id;
  for (int i = 0; i < 4; ++i) absl::StrAppendFormat(&id, "%08x", device());
  return id;
}

absl::StatusOr<Session*> SessionTable::Add(std::unique_ptr<Session> session, absl::Time now) {
  if (size() >= max_sessions_) {
    return MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kSessionLimit,
                     absl::StrCat("there are ", size(), " sessions, the most that are held"));
  }
  Session* const added = session.get();
  Tenant& tenant = tenants_[added->tenant];
  added->id = NewSessionId();
  added->serial = tenant.next_serial++;
  added->created = now;
  added->last_used = now;
  tenant.sessions.emplace(added->serial, added);
  MK_CHECK(by_id_.emplace(added->id, std::move(session)).second);
  Put(added);
  return added;
}

absl::StatusOr<Session*> SessionTable::Find(const std::string& tenant, const std::string& id) const {
  const auto it = by_id_.find(id);
  if (it != by_id_.end() && it->second->tenant == tenant) return it->second.get();
  const auto expired = expired_.find(id);
  if (expired != expired_.end() && expired->second == tenant) {
    return MakeError(absl::StatusCode::kNotFound, ErrorReason::kSessionExpired,
                     absl::StrCat("session ", id, " has expired"));
  }
  return MakeError(absl::StatusCode::kNotFound, ErrorReason::kSessionNotFound,
                   absl::StrCat("there is no session \"", id, "\""));
}

std::unique_ptr<Session> SessionTable::Remove(Session* session) {
  Take(session);
  tenants_[session->tenant].sessions.erase(session->serial);
  const auto it = by_id_.find(session->id);
  MK_CHECK(it != by_id_.end());
  std::unique_ptr<Session> removed = std::move(it->second);
  by_id_.erase(it);
  return removed;
}

void SessionTable::Take(Session* session) {
  by_expiry_.erase({session->expires(), session});
  by_last_use_.erase({session->last_used, session});
}

void SessionTable::Put(Session* session) {
  if (session->busy != nullptr) return;
  by_expiry_.emplace(session->expires(), session);
  if (!session->sequence.pages().empty()) by_last_use_.emplace(session->last_used, session);
}

int SessionTable::Expire(absl::Time now) {
  int count = 0;
  while (!by_expiry_.empty() && by_expiry_.begin()->first <= now) {
    const std::unique_ptr<Session> session = Remove(by_expiry_.begin()->second);
    RememberExpired(*session);
    ++count;
  }
  return count;
}

void SessionTable::RememberExpired(const Session& session) {
  if (expired_order_.size() >= kMaxExpired) {
    expired_.erase(expired_order_.front());
    expired_order_.pop_front();
  }
  expired_.emplace(session.id, session.tenant);
  expired_order_.push_back(session.id);
}

absl::Time SessionTable::NextExpiry() const {
  return by_expiry_.empty() ? absl::InfiniteFuture() : by_expiry_.begin()->first;
}

Session* SessionTable::LeastRecentlyUsed() const {
  return by_last_use_.empty() ? nullptr : by_last_use_.begin()->second;
}

int SessionTable::CountOf(const std::string& tenant) const {
  const auto it = tenants_.find(tenant);
  return it == tenants_.end() ? 0 : static_cast<int>(it->second.sessions.size());
}

std::vector<Session*> SessionTable::List(const std::string& tenant, std::uint64_t after, int count) const {
  std::vector<Session*> sessions;
  const auto it = tenants_.find(tenant);
  if (it == tenants_.end()) return sessions;
  for (auto next = it->second.sessions.upper_bound(after);
       next != it->second.sessions.end() && static_cast<int>(sessions.size()) < count; ++next) {
    sessions.push_back(next->second);
  }
  return sessions;
}

}  // namespace megakernel
