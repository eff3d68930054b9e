// EngineCore: sessions out of the engine and into it.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/core/engine_core.h"

namespace megakernel {
namespace {

// Read at a time: the executor's lanes wait for a copy of this size at most.
constexpr std::int64_t kReadBytes = std::int64_t{16} << 20;

template <typename... Parts>
absl::Status Corrupt(const Parts&... parts) {
  return MakeError(absl::StatusCode::kDataLoss, ErrorReason::kSessionCorrupt,
                   absl::StrCat("the saved session ", parts...));
}

}  // namespace

void EngineCore::ExportSession(const std::string& tenant, const std::string& id, SessionImageCallback done) {
  if (executor_->info().page_format.empty()) {
    return done(MakeError(absl::StatusCode::kUnimplemented, ErrorReason::kUnsupported,
                          "the executor does not give out keys and values: sessions cannot be saved"));
  }
  absl::StatusOr<Session*> found = FindIdle(tenant, id);
  if (!found.ok()) return done(std::move(found).status());
  Session* const session = *found;
  sessions_.Take(session);
  session->last_used = now_;
  sessions_.Put(session);

  const std::uint64_t ticket = next_ticket_++;
  Export& entry = exports_[ticket];
  entry.sequence = std::make_unique<Sequence>(session->sequence, session->sequence.length());
  entry.image.format = ImageFormatFor(*model_, executor_->info(), tenant);
  entry.image.tokens = entry.sequence->tokens();
  entry.image.kv_length = entry.sequence->kv_length();
  entry.done = std::move(done);
  if (const absl::Status status = ReadNextPages(ticket, entry); !status.ok()) Fail(status);
}

// The next pages, or the end of the export when there are none.
absl::Status EngineCore::ReadNextPages(std::uint64_t ticket, const Export& entry) {
  const std::vector<PageId>& pages = entry.sequence->pages();
  if (entry.pages_read == static_cast<std::int32_t>(pages.size())) {
    Export done = std::move(exports_.extract(ticket).mapped());
    done.sequence.reset();
    done.done(std::move(done.image));
    return absl::OkStatus();
  }
  const auto first = pages.begin() + entry.pages_read;
  const std::int64_t most = std::max<std::int64_t>(1, kReadBytes / executor_->info().page_bytes);
  const std::int64_t count = std::min<std::int64_t>(most, pages.end() - first);
  return executor_->Submit(ReadPages{.ticket = ticket, .pages = {first, first + count}});
}

void EngineCore::OnPages(PageBytes& pages) {
  const auto found = exports_.find(pages.ticket);
  if (found == exports_.end()) return;  // ended meanwhile
  Export& entry = found->second;
  const std::int64_t page_bytes = executor_->info().page_bytes;
  const auto bytes = static_cast<std::int64_t>(pages.bytes.size());
  const std::int64_t left = static_cast<std::int64_t>(entry.sequence->pages().size()) - entry.pages_read;
  if (bytes == 0 || bytes % page_bytes != 0 || bytes / page_bytes > left) {
    return Fail(absl::InternalError(
        absl::StrCat("executor event kPages has ", bytes, " bytes for ", left, " pages of ", page_bytes)));
  }
  entry.pages_read += static_cast<std::int32_t>(bytes / page_bytes);
  std::vector<std::byte>& image = entry.image.pages;
  image.insert(image.end(), pages.bytes.begin(), pages.bytes.end());
  if (const absl::Status status = ReadNextPages(pages.ticket, entry); !status.ok()) Fail(status);
}

void EngineCore::EndExports(const absl::Status& status) {
  auto exports = std::exchange(exports_, {});
  for (auto& [ticket, entry] : exports) {
    entry.sequence.reset();
    entry.done(status);
  }
}

absl::Status EngineCore::CheckImage(const SessionImage& image, const std::string& tenant) const {
  MK_RETURN_IF_ERROR(CheckFormat(image.format, ImageFormatFor(*model_, executor_->info(), tenant)));
  const auto length = static_cast<std::int64_t>(image.tokens.size());
  if (length > max_context_) {
    return MakeError(absl::StatusCode::kInvalidArgument, ErrorReason::kContextExceeded,
                     absl::StrCat("the saved session has ", length, " tokens, the context is ", max_context_));
  }
  if (image.kv_length < 0 || (image.kv_length > 0 && image.kv_length >= length)) {
    return Corrupt("has keys for ", image.kv_length, " of ", length, " tokens");
  }
  const std::int64_t expected = image.num_pages() * image.format.page_bytes;
  if (static_cast<std::int64_t>(image.pages.size()) != expected) {
    return Corrupt("has ", image.pages.size(), " bytes of pages, not ", expected);
  }
  const std::int32_t vocab = executor_->info().vocab;
  for (const TokenId token : image.tokens) {
    if (token < 0 || token >= vocab) return Corrupt("has token ", token, " of a vocabulary of ", vocab);
  }
  return absl::OkStatus();
}

// Pages for the image's keys and values, and the bytes into those that no equal prefix has already.
absl::Status EngineCore::WriteImage(const SessionImage& image, Sequence& sequence) {
  PagePlan plan = sequence.PlanPages(image.kv_length, options_.prefix_sharing);
  while (cache_.available() < plan.new_pages + plan.idle_hits) {
    if (!HasReclaimable()) {
      return MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kKvExhausted,
                       absl::StrCat("needs ", plan.new_pages, " KV pages, ", cache_.available(), " of ",
                                    cache_.num_pages(), " can be had"));
    }
    Reclaim();
    plan = sequence.PlanPages(image.kv_length, options_.prefix_sharing);
  }
  sequence.TakePages(plan, image.kv_length);
  if (sequence.kv_length() >= image.kv_length) return absl::OkStatus();
  const std::int32_t first = sequence.kv_length() / image.format.page_tokens;
  WritePages write{.pages = {sequence.pages().begin() + first, sequence.pages().end()},
                   .bytes = {image.pages.begin() + first * image.format.page_bytes, image.pages.end()}};
  const absl::Status status = executor_->Submit(std::move(write));
  if (status.ok()) sequence.Adopt(image.kv_length);
  return status;
}

absl::StatusOr<SessionInfo> EngineCore::ImportSession(const std::string& tenant, SessionImage image,
                                                      std::optional<absl::Duration> ttl) {
  MK_RETURN_IF_ERROR(CheckImage(image, tenant));
  auto session = std::make_unique<Session>(&cache_, tenant);
  MK_ASSIGN_OR_RETURN(session->ttl, CheckTtl(ttl, options_.session_ttl));
  session->sequence.Append(image.tokens);
  MK_RETURN_IF_ERROR(CheckPages(tenant, image.num_pages(), nullptr));
  if (image.kv_length > 0) MK_RETURN_IF_ERROR(WriteImage(image, session->sequence));
  MK_ASSIGN_OR_RETURN(const Session* const added, AddSession(std::move(session)));
  return Describe(*added);
}

}  // namespace megakernel
