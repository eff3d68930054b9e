// EngineCore: operations on sessions.
#include <algorithm>
#include <charconv>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/core/engine_core.h"

namespace megakernel {
namespace {

constexpr int kDefaultSessionPage = 100;

absl::Status CheckLength(std::int32_t length, const Session& session) {
  if (length >= 0 && length <= session.sequence.length()) return absl::OkStatus();
  return FieldError("length", absl::StrCat("length is ", length, ", must be in [0, ", session.sequence.length(),
                                           "], the length of session ", session.id));
}

}  // namespace

absl::StatusOr<absl::Duration> EngineCore::CheckTtl(std::optional<absl::Duration> ttl, absl::Duration otherwise) {
  if (!ttl.has_value()) return otherwise;
  if (*ttl >= kMinSessionTtl && *ttl <= kMaxSessionTtl) return *ttl;
  return FieldError(
      "idle_ttl", absl::StrCat("idle_ttl is ", absl::FormatDuration(*ttl), ", must be in [",
                               absl::FormatDuration(kMinSessionTtl), ", ", absl::FormatDuration(kMaxSessionTtl), "]"));
}

SessionInfo EngineCore::Describe(const Session& session) const {
  SessionInfo info{.id = session.id,
                   .parent_id = session.parent_id,
                   .length = session.sequence.length(),
                   .kv_length = session.sequence.kv_length(),
                   .capacity = max_context_,
                   .created = session.created,
                   .last_used = session.last_used,
                   .expires = session.expires(),
                   .busy = session.busy != nullptr,
                   .tokens = {}};
  // A prompt of which no row has run is not part of the session yet.
  if (session.busy != nullptr && !session.busy->has_started()) info.length = session.busy->base_length;
  info.kv_length = std::min(info.kv_length, std::max(0, info.length - 1));
  return info;
}

void EngineCore::ExpireSessions() {
  totals_.sessions_expired += sessions_.Expire(now_);
}

absl::StatusOr<Session*> EngineCore::FindIdle(const std::string& tenant, const std::string& id) {
  ExpireSessions();
  MK_ASSIGN_OR_RETURN(Session* const session, sessions_.Find(tenant, id));
  if (session->busy == nullptr) return session;
  return MakeError(absl::StatusCode::kAborted, ErrorReason::kSessionBusy,
                   std::string(absl::StrCat("an operation is running on session ", id)));
}

absl::StatusOr<SessionInfo> EngineCore::CreateSession(const std::string& tenant, std::optional<absl::Duration> ttl) {
  auto session = std::make_unique<Session>(&cache_, tenant);
  MK_ASSIGN_OR_RETURN(session->ttl, CheckTtl(ttl, options_.session_ttl));
  MK_ASSIGN_OR_RETURN(const Session* const added, AddSession(std::move(session)));
  return Describe(*added);
}

absl::StatusOr<SessionInfo> EngineCore::GetSession(const std::string& tenant, const std::string& id,
                                                   bool include_tokens) {
  ExpireSessions();
  MK_ASSIGN_OR_RETURN(const Session* const session, sessions_.Find(tenant, id));
  SessionInfo info = Describe(*session);
  if (include_tokens) {
    const std::vector<TokenId>& tokens = session->sequence.tokens();
    info.tokens.assign(tokens.begin(), tokens.begin() + info.length);
  }
  return info;
}

absl::StatusOr<SessionPage> EngineCore::ListSessions(const std::string& tenant, int page_size,
                                                     const std::string& page_token) {
  if (page_size < 0 || page_size > kMaxSessionPage) {
    return FieldError("page_size", absl::StrCat("page_size is ", page_size, ", must be in [1, ", kMaxSessionPage, "]"));
  }
  std::uint64_t after = 0;
  const char* const end = page_token.data() + page_token.size();
  const auto [parsed, error] = std::from_chars(page_token.data(), end, after, 16);
  if (!page_token.empty() && (error != std::errc() || parsed != end)) {
    return FieldError("page_token", "page_token is not one that ListSessions returned");
  }
  ExpireSessions();
  const int count = page_size == 0 ? kDefaultSessionPage : page_size;
  std::vector<Session*> found = sessions_.List(tenant, after, count + 1);
  SessionPage page;
  if (static_cast<int>(found.size()) > count) {
    found.pop_back();
    page.next_page_token = absl::StrCat(absl::Hex(found.back()->serial));
  }
  for (const Session* const session : found) page.sessions.push_back(Describe(*session));
  return page;
}

absl::StatusOr<SessionInfo> EngineCore::ForkSession(const std::string& tenant, const std::string& id,
                                                    std::optional<std::int32_t> length,
                                                    std::optional<absl::Duration> ttl) {
  MK_ASSIGN_OR_RETURN(Session* const parent, FindIdle(tenant, id));
  const std::int32_t shared = length.value_or(parent->sequence.length());
  MK_RETURN_IF_ERROR(CheckLength(shared, *parent));
  MK_ASSIGN_OR_RETURN(const absl::Duration fork_ttl, CheckTtl(ttl, parent->ttl));
  auto session = std::make_unique<Session>(*parent, shared);
  session->ttl = fork_ttl;
  const std::size_t pages = parent->sequence.pages().size() + session->sequence.pages().size();
  MK_RETURN_IF_ERROR(CheckPages(tenant, static_cast<std::int64_t>(pages), parent));
  MK_ASSIGN_OR_RETURN(const Session* const fork, AddSession(std::move(session)));
  sessions_.Take(parent);
  parent->last_used = now_;
  sessions_.Put(parent);
  return Describe(*fork);
}

absl::StatusOr<SessionInfo> EngineCore::RollbackSession(const std::string& tenant, const std::string& id,
                                                        std::int32_t length) {
  MK_ASSIGN_OR_RETURN(Session* const session, FindIdle(tenant, id));
  MK_RETURN_IF_ERROR(CheckLength(length, *session));
  sessions_.Take(session);
  session->sequence.Truncate(length);
  session->last_used = now_;
  sessions_.Put(session);
  return Describe(*session);
}

void EngineCore::DeleteSession(const std::string& tenant, const std::string& id, SessionCallback done) {
  ExpireSessions();
  absl::StatusOr<Session*> found = sessions_.Find(tenant, id);
  if (!found.ok()) return done(std::move(found).status());
  Generation* const generation = (*found)->busy;
  std::unique_ptr<Session> removed = sessions_.Remove(*found);
  if (generation == nullptr) return done(SessionInfo());
  generation->deleted = std::move(removed);
  generation->on_deleted.push_back(std::move(done));
  EndGeneration(*generation,
                {FinishReason::kCancelled,
                 MakeError(absl::StatusCode::kAborted, ErrorReason::kSessionDeleted, "the session was deleted"), ""});
  SweepEnded();
}

}  // namespace megakernel
