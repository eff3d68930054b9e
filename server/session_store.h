// Saved sessions on disk: a folder per tenant, a file per name.
//
// Names come from clients and are checked so that a file is always in its tenant's folder; tenants' names become
// fingerprints. The folder belongs to the server alone: nobody else may write there.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "engine/core/session_image.h"
#include "server/task_pool.h"

namespace megakernel {

struct SavedSessionInfo {
  std::string name;
  std::int64_t size_bytes = 0;
  absl::Time saved;
};

inline constexpr std::size_t kMaxSavedNameBytes = 64;

// Thread-safe. What reads and writes waits for the disk: from Post's thread only, which also keeps two from writing one
// file.
class SessionStore {
 public:
  // Sessions that may be on their way to or from the disk, each with all of its keys and values in memory.
  static constexpr int kMaxTransfers = 4;

  // Makes the folder if there is none, removes what is left of saves that were killed. FailedPrecondition naming the
  // folder and why it is of no use. `max_per_tenant`: names a tenant may use.
  static absl::StatusOr<std::unique_ptr<SessionStore>> Open(const std::string& folder, int max_per_tenant);

  // InvalidArgument for anything but 1 to 64 of A-Z a-z 0-9 _ - and, not as the first, the dot.
  static absl::Status CheckName(std::string_view name);

  // A place among kMaxTransfers, held until the last copy of it is gone; null when all are taken.
  std::shared_ptr<void> TakePlace();
  // Runs `task` on the store's thread; drops it after Stop.
  void Post(std::function<void()> task);
  // Runs what was posted, then joins the thread: when every call has been answered. Idempotent.
  void Stop();

  // --- On Post's thread. Names are checked. Errors name the saved session, never a path; those of session_file.h. ---

  // SESSION_LIMIT when the tenant uses as many names as it may, and this is another one.
  absl::StatusOr<SavedSessionInfo> Save(const std::string& tenant, const std::string& name, const SessionImage& image);
  absl::StatusOr<SessionImage> Load(const std::string& tenant, const std::string& name, const ImageFormat& here) const;
  // By name.
  absl::StatusOr<std::vector<SavedSessionInfo>> List(const std::string& tenant) const;
  absl::Status Delete(const std::string& tenant, const std::string& name);

 private:
  SessionStore(std::string folder, int max_per_tenant)
      : folder_(std::move(folder)), max_per_tenant_(max_per_tenant), tasks_(1) {}
  std::string FolderOf(const std::string& tenant) const;
  std::string PathOf(const std::string& tenant, const std::string& name) const;

  const std::string folder_;
  const int max_per_tenant_;
  std::shared_ptr<std::atomic<int>> transfers_ = std::make_shared<std::atomic<int>>(0);
  Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  TaskPool tasks_;  // last: its tasks use the rest
};

}  // namespace megakernel
