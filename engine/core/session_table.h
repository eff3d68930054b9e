// The sessions there are: by id, by age for listing, by idle time for expiry and for taking pages back.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/core/sequence.h"
#include "engine/core/session.h"

namespace megakernel {

struct Generation;

// Change `sequence`, `busy` or `last_used` of a session in the table only between SessionTable::Take and Put.
struct Session {
  Session(KvCache* cache, const std::string& tenant) : tenant(tenant), sequence(cache, tenant) {}
  Session(const Session& parent, std::int32_t length)
      : parent_id(parent.id), tenant(parent.tenant), ttl(parent.ttl), sequence(parent.sequence, length) {}

  std::string id;
  std::string parent_id;
  std::string tenant;
  std::uint64_t serial = 0;  // order of creation within the tenant
  absl::Time created;
  absl::Time last_used;
  absl::Duration ttl;
  Sequence sequence;
  Generation* busy = nullptr;

  absl::Time expires() const { return busy != nullptr ? absl::InfiniteFuture() : last_used + ttl; }
};

// Engine thread only. Owns the sessions.
class SessionTable {
 public:
  explicit SessionTable(int max_sessions) : max_sessions_(max_sessions) {}

  // Gives it an id and a serial number. SESSION_LIMIT when there are too many.
  absl::StatusOr<Session*> Add(std::unique_ptr<Session> session, absl::Time now);
  // SESSION_NOT_FOUND or SESSION_EXPIRED.
  absl::StatusOr<Session*> Find(const std::string& tenant, const std::string& id) const;
  std::unique_ptr<Session> Remove(Session* session);

  // Around every change of what the table sorts by.
  void Take(Session* session);
  void Put(Session* session);

  // Removes what is idle past its time, remembers the ids; returns how many.
  int Expire(absl::Time now);
  absl::Time NextExpiry() const;
  // The idle session that was used longest ago among those that hold pages; null when there is none.
  Session* LeastRecentlyUsed() const;

  // Up to `count` sessions of a tenant, oldest first, with serial > `after`.
  std::vector<Session*> List(const std::string& tenant, std::uint64_t after, int count) const;

  // Sessions of a tenant.
  int CountOf(const std::string& tenant) const;
  int size() const { return static_cast<int>(by_id_.size()); }

 private:
  struct Tenant {
    std::uint64_t next_serial = 1;
    std::map<std::uint64_t, Session*> sessions;
  };
  using ByTime = std::set<std::pair<absl::Time, Session*>>;

  void RememberExpired(const Session& session);

  const int max_sessions_;
  absl::flat_hash_map<std::string, std::unique_ptr<Session>> by_id_;
  absl::flat_hash_map<std::string, Tenant> tenants_;
  ByTime by_expiry_;    // idle ones
  ByTime by_last_use_;  // idle ones that hold pages
  // Ids that expired, so that the client hears why; the oldest are forgotten.
  absl::flat_hash_map<std::string, std::string> expired_;  // id -> tenant
  std::deque<std::string> expired_order_;
};

// 128 random bits from the system, 32 hex digits.
std::string NewSessionId();

}  // namespace megakernel
