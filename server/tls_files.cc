#include "server/tls_files.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <ctime>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"
#include "server/small_file.h"

namespace megakernel {
namespace {

constexpr std::size_t kMaxPemBytes = 1 << 20;
constexpr absl::Duration kSoon = absl::Hours(7 * 24);

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Bio = std::unique_ptr<BIO, Free<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;

absl::Status Failed(const std::string& path, const std::string& why) {
  return absl::FailedPreconditionError(absl::StrCat(path, ": ", why));
}

Bio MemoryBio(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// All certificates of a PEM text; at least one.
absl::StatusOr<std::vector<Certificate>> ReadCertificates(const std::string& pem, const std::string& path) {
  const Bio bio = MemoryBio(pem);
  std::vector<Certificate> certificates;
  while (Certificate next{PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)}) {
    certificates.push_back(std::move(next));
  }
  const unsigned long error = ERR_peek_last_error();
  const bool at_end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (!at_end) return Failed(path, absl::StrCat("certificate ", certificates.size() + 1, " in it is damaged"));
  if (certificates.empty()) return Failed(path, "holds no PEM certificate");
  return certificates;
}

// Passphrases are asked for by OpenSSL on the terminal unless this says no.
int NoPassphrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

absl::StatusOr<Key> ReadKey(const std::string& pem, const std::string& path) {
  const Bio bio = MemoryBio(pem);
  bool asked = false;
  Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, &asked));
  ERR_clear_error();
  if (asked) return Failed(path, "the key needs a passphrase: give one without");
  if (key == nullptr) return Failed(path, "holds no PEM private key");
  return key;
}

absl::Time ToTime(const ASN1_TIME* time) {
  std::tm fields{};
  if (ASN1_TIME_to_tm(time, &fields) != 1) return absl::InfinitePast();
  return absl::FromTimeT(timegm(&fields));
}

std::string Subject(const X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<std::size_t>(size));
}

std::string Date(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d %H:%M UTC", time, absl::UTCTimeZone());
}

}  // namespace

std::vector<std::string> TlsPaths::All() const {
  std::vector<std::string> all = {certificate, key};
  if (!client_ca.empty()) all.push_back(client_ca);
  return all;
}

absl::StatusOr<TlsIdentity> ReadTlsIdentity(const TlsPaths& paths) {
  TlsIdentity identity;
  MK_ASSIGN_OR_RETURN(identity.certificate, ReadSmallFile(paths.certificate, kMaxPemBytes));
  MK_ASSIGN_OR_RETURN(const std::vector<Certificate> chain, ReadCertificates(identity.certificate, paths.certificate));
  MK_ASSIGN_OR_RETURN(identity.key, ReadSmallFile(paths.key, kMaxPemBytes));
  MK_ASSIGN_OR_RETURN(const Key key, ReadKey(identity.key, paths.key));
  const bool fits = X509_check_private_key(chain.front().get(), key.get()) == 1;
  ERR_clear_error();
  if (!fits) return Failed(paths.key, absl::StrCat("is not the key of the first certificate in ", paths.certificate));
  if (!paths.client_ca.empty()) {
    MK_ASSIGN_OR_RETURN(identity.client_ca, ReadSmallFile(paths.client_ca, kMaxPemBytes));
    MK_RETURN_IF_ERROR(ReadCertificates(identity.client_ca, paths.client_ca).status());
  }
  identity.subject = Subject(chain.front().get());
  identity.not_before = ToTime(X509_get0_notBefore(chain.front().get()));
  identity.not_after = ToTime(X509_get0_notAfter(chain.front().get()));
  return identity;
}

std::string DateWarning(const TlsIdentity& identity, absl::Time now) {
  if (now > identity.not_after) return absl::StrCat("it expired on ", Date(identity.not_after));
  if (now < identity.not_before) return absl::StrCat("it is not valid before ", Date(identity.not_before));
  if (now + kSoon > identity.not_after) return absl::StrCat("it expires on ", Date(identity.not_after));
  return "";
}

TlsFiles::TlsFiles(TlsPaths paths, TlsIdentity identity)
    : paths_(std::move(paths)), identity_(std::make_shared<const TlsIdentity>(std::move(identity))) {}

absl::StatusOr<std::shared_ptr<TlsFiles>> TlsFiles::Open(TlsPaths paths) {
  MK_ASSIGN_OR_RETURN(TlsIdentity identity, ReadTlsIdentity(paths));
  return std::shared_ptr<TlsFiles>(new TlsFiles(std::move(paths), std::move(identity)));
}

absl::Status TlsFiles::Reload(absl::Time now) {
  MK_ASSIGN_OR_RETURN(TlsIdentity fresh, ReadTlsIdentity(paths_));
  MutexLock lock(&mutex_);
  if (!fresh.ValidAt(now) && identity_->ValidAt(now)) {
    return Failed(paths_.certificate, DateWarning(fresh, now));
  }
  identity_ = std::make_shared<const TlsIdentity>(std::move(fresh));
  return absl::OkStatus();
}

std::shared_ptr<const TlsIdentity> TlsFiles::identity() const {
  MutexLock lock(&mutex_);
  return identity_;
}

}  // namespace megakernel
