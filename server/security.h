// What the security options of a server name: certificate, tokens and quotas, kept up to date while it serves.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "engine/core/tenant_quota.h"
#include "server/access.h"
#include "server/options.h"
#include "server/small_file.h"
#include "server/tls_files.h"

namespace megakernel {

// Looks at the files once a second on a thread of its own, and reads what has changed. What is broken is logged and
// changes nothing. Thread-safe.
class Security {
 public:
  // Reads the files and logs what is in force, and what an operator should not leave so. Errors name flag and file.
  static absl::StatusOr<std::unique_ptr<Security>> Open(const ServerOptions& options,
                                                        absl::Duration interval = absl::Seconds(1));
  ~Security();
  Security(const Security&) = delete;
  Security& operator=(const Security&) = delete;

  std::shared_ptr<TlsFiles> tls() const { return tls_; }  // null: unencrypted
  const AccessControl* access() const {
    return access_.has_value() ? &*access_ : nullptr;
  }  // null: nobody needs a token
  TenantQuotas* quotas() { return &quotas_; }

  // Reads everything again, changed or not; returns the first error.
  absl::Status Reload();

 private:
  Security() = default;
  absl::Status ReloadTls();
  absl::Status ReloadTokens();
  void Watch(absl::Duration interval);

  std::shared_ptr<TlsFiles> tls_;
  std::optional<AccessControl> access_;
  TenantQuotas quotas_;

  std::vector<std::string> tls_paths_;    // empty: none
  std::vector<std::string> token_paths_;  // empty: none
  // As of the last reading; the watching thread's.
  FileStamps tls_stamps_{{}};
  FileStamps token_stamps_{{}};

  Mutex reload_mutex_;  // one reading at a time: tokens and limits are of the same file
  Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace megakernel
