#include "server/session_store.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <span>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/base/status_macros.h"
#include "engine/core/error.h"
#include "engine/core/session_file.h"
#include "engine/model/digest.h"
#include "spdlog/spdlog.h"

namespace megakernel {
namespace {

namespace fs = std::filesystem;

constexpr char kSuffix[] = ".mksession";

// Clients learn the name of what they asked for, operators the path.
absl::Status WithoutPath(const absl::Status& status, const std::string& path, const std::string& name) {
  if (status.ok()) return status;
  spdlog::warn("saved_session path=\"{}\" error=\"{}\"", path, std::string(status.message()));
  const std::string said = absl::StrReplaceAll(status.message(), {{path, absl::StrCat("saved session ", name)}});
  return MakeError(status.code(), ReasonOf(status), said);
}

absl::Status Storage(const std::error_code& error, std::string_view what) {
  const bool full = error == std::errc::no_space_on_device;
  return MakeError(full ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kInternal,
                   full ? ErrorReason::kStorageFull : ErrorReason::kStorageFailed,
                   absl::StrCat(std::string(what), ": ", error.message()));
}

absl::Time TimeOf(const fs::path& path, std::error_code& error) {
  const auto written = fs::last_write_time(path, error);
  if (error) return absl::InfinitePast();
  return absl::FromChrono(std::chrono::file_clock::to_sys(written));
}

// Of saves that were killed, in every tenant's folder.
absl::Status RemovePartial(const std::string& folder) {
  std::error_code error;
  for (fs::recursive_directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (!at->path().native().ends_with(kPartialSuffix)) continue;
    spdlog::warn("saved_session removed=\"{}\" reason=\"a save that was cut\"", at->path().native());
    std::error_code ignored;
    fs::remove(at->path(), ignored);
  }
  return error ? absl::FailedPreconditionError(absl::StrCat(folder, ": ", error.message())) : absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<SessionStore>> SessionStore::Open(const std::string& folder, int max_per_tenant) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error && !fs::is_directory(folder, error)) error = std::make_error_code(std::errc::not_a_directory);
  if (error) return absl::FailedPreconditionError(absl::StrCat(folder, ": ", error.message()));
  MK_RETURN_IF_ERROR(RemovePartial(folder));
  return std::unique_ptr<SessionStore>(new SessionStore(folder, max_per_tenant));
}

absl::Status SessionStore::CheckName(std::string_view name) {
  const auto allowed = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-';
  };
  if (!name.empty() && name.size() <= kMaxSavedNameBytes && allowed(name.front()) &&
      std::all_of(name.begin(), name.end(), [&](char c) { return allowed(c) || c == '.'; })) {
    return absl::OkStatus();
  }
  return FieldError("name", absl::StrCat("name must be 1 to ", kMaxSavedNameBytes,
                                         " of the characters A-Z a-z 0-9 _ - and, not as the first, the dot"));
}

void SessionStore::Post(std::function<void()> task) {
  MutexLock lock(&mutex_);
  if (!stopped_) tasks_.Post(std::move(task));
}

void SessionStore::Stop() {
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
  }
  tasks_.Finish();
}

std::shared_ptr<void> SessionStore::TakePlace() {
  std::shared_ptr<std::atomic<int>> transfers = transfers_;
  if (transfers->fetch_add(1) >= kMaxTransfers) {
    transfers->fetch_sub(1);
    return nullptr;
  }
  return std::shared_ptr<void>(transfers.get(), [transfers](void*) { transfers->fetch_sub(1); });
}

std::string SessionStore::FolderOf(const std::string& tenant) const {
  Digest digest;
  digest.Add(std::as_bytes(std::span(tenant)));
  return absl::StrCat(folder_, "/", digest.Hex());
}

std::string SessionStore::PathOf(const std::string& tenant, const std::string& name) const {
  return absl::StrCat(FolderOf(tenant), "/", name, kSuffix);
}

absl::StatusOr<SavedSessionInfo> SessionStore::Save(const std::string& tenant, const std::string& name,
                                                    const SessionImage& image) {
  const std::string path = PathOf(tenant, name);
  std::error_code error;
  fs::create_directory(FolderOf(tenant), error);
  if (error) return Storage(error, "the tenant's folder cannot be made");
  if (!fs::exists(path, error)) {
    MK_ASSIGN_OR_RETURN(const std::vector<SavedSessionInfo> saved, List(tenant));
    if (static_cast<int>(saved.size()) >= max_per_tenant_) {
      return MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kSessionLimit,
                       absl::StrCat(saved.size(), " sessions are saved, the most that may be"));
    }
  }
  MK_RETURN_IF_ERROR(WithoutPath(WriteSessionFile(path, image), path, name));
  SavedSessionInfo info{.name = name, .size_bytes = static_cast<std::int64_t>(fs::file_size(path, error)), .saved = {}};
  if (!error) info.saved = TimeOf(path, error);
  if (error) return Storage(error, "the file cannot be looked at");
  return info;
}

absl::StatusOr<SessionImage> SessionStore::Load(const std::string& tenant, const std::string& name,
                                                const ImageFormat& here) const {
  const std::string path = PathOf(tenant, name);
  absl::StatusOr<SessionImage> image = ReadSessionFile(path, here);
  if (!image.ok()) return WithoutPath(image.status(), path, name);
  return image;
}

absl::StatusOr<std::vector<SavedSessionInfo>> SessionStore::List(const std::string& tenant) const {
  std::vector<SavedSessionInfo> found;
  std::error_code error;
  fs::directory_iterator at(FolderOf(tenant), error);
  if (error == std::errc::no_such_file_or_directory) return found;
  for (const fs::directory_iterator end; !error && at != end; at.increment(error)) {
    const std::string file = at->path().filename();
    if (!file.ends_with(kSuffix)) continue;
    std::error_code gone;  // meanwhile
    SavedSessionInfo info{.name = file.substr(0, file.size() - std::strlen(kSuffix)),
                          .size_bytes = static_cast<std::int64_t>(at->file_size(gone)),
                          .saved = {}};
    if (!gone) info.saved = TimeOf(at->path(), gone);
    if (!gone) found.push_back(std::move(info));
  }
  if (error) return Storage(error, "the saved sessions cannot be listed");
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return found;
}

absl::Status SessionStore::Delete(const std::string& tenant, const std::string& name) {
  std::error_code error;
  const bool removed = fs::remove(PathOf(tenant, name), error);
  if (error) return Storage(error, absl::StrCat("saved session ", name, " cannot be deleted"));
  if (removed) return absl::OkStatus();
  return MakeError(absl::StatusCode::kNotFound, ErrorReason::kSessionNotFound,
                   absl::StrCat("there is no saved session ", name));
}

}  // namespace megakernel
