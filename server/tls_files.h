// The certificate, key and client authorities that a server shows and trusts: PEM files, checked before they are used,
// and read again while it serves.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"

namespace megakernel {

struct TlsPaths {
  std::string certificate;  // the server's own first, then those that lead to its authority
  std::string key;          // of the first certificate, without a passphrase
  std::string client_ca;    // authorities of clients; empty: clients need no certificate

  std::vector<std::string> All() const;
};

// Contents that fit together. Immutable.
struct TlsIdentity {
  std::string certificate;
  std::string key;
  std::string client_ca;
  std::string subject;  // of the first certificate, for the log
  absl::Time not_before;
  absl::Time not_after;

  bool ValidAt(absl::Time time) const { return not_before <= time && time <= not_after; }
};

// FailedPrecondition "PATH: why": it cannot be read, holds no certificate or key, or the key is not the certificate's.
// Dates are not looked at.
absl::StatusOr<TlsIdentity> ReadTlsIdentity(const TlsPaths& paths);

// Why clients will not accept the certificate at `now`, or soon: it has expired, is not valid yet, or has less than a
// week left. Empty when all is well.
std::string DateWarning(const TlsIdentity& identity, absl::Time now);

// Thread-safe.
class TlsFiles {
 public:
  // Errors of ReadTlsIdentity.
  static absl::StatusOr<std::shared_ptr<TlsFiles>> Open(TlsPaths paths);

  // Reads the files again: for connections from now on; those that stand go on. What is broken changes nothing and is
  // returned; so is a certificate that is not valid at `now`, while the one in use is.
  absl::Status Reload(absl::Time now);

  std::shared_ptr<const TlsIdentity> identity() const;
  const TlsPaths& paths() const { return paths_; }
  // Whether clients must show a certificate.
  bool mutual() const { return !paths_.client_ca.empty(); }

 private:
  TlsFiles(TlsPaths paths, TlsIdentity identity);

  const TlsPaths paths_;
  mutable Mutex mutex_;
  std::shared_ptr<const TlsIdentity> identity_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace megakernel
