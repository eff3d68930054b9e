#include "tests/server/test_certificates.h"

#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "engine/base/check.h"

namespace megakernel::testing {
namespace {

std::string Text(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<std::size_t>(size));
  BIO_free(bio);
  return text;
}

void AddExtension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  MK_CHECK(extension != nullptr);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

TestCertificate Make(const CertificateOptions& options, const TestCertificate* authority) {
  EVP_PKEY* const key = EVP_EC_gen("P-256");
  X509* const certificate = X509_new();
  X509_set_version(certificate, 2);
  std::uint32_t serial = 0;
  RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof(serial));
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial | 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), absl::ToInt64Seconds(options.from));
  X509_gmtime_adj(X509_getm_notAfter(certificate), absl::ToInt64Seconds(options.to));
  X509_set_pubkey(certificate, key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(options.name.c_str()), -1, -1, 0);
  X509* issuer = certificate;
  EVP_PKEY* issuer_key = key;
  if (authority != nullptr) {
    BIO* bio = BIO_new_mem_buf(authority->certificate.data(), static_cast<int>(authority->certificate.size()));
    issuer = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
    BIO_free(bio);
    bio = BIO_new_mem_buf(authority->key.data(), static_cast<int>(authority->key.size()));
    issuer_key = PEM_read_bio_PrivateKey(bio, nullptr, nullptr, nullptr);
    BIO_free(bio);
    AddExtension(certificate, issuer, NID_subject_alt_name, "DNS:" + options.name + ",IP:127.0.0.1");
  } else {
    AddExtension(certificate, issuer, NID_basic_constraints, "critical,CA:TRUE");
  }
  X509_set_issuer_name(certificate, X509_get_subject_name(issuer));
  MK_CHECK(X509_sign(certificate, issuer_key, EVP_sha256()) > 0);
  TestCertificate made;
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(bio, certificate);
  made.certificate = Text(bio);
  bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
  made.key = Text(bio);
  if (authority != nullptr) {
    X509_free(issuer);
    EVP_PKEY_free(issuer_key);
  }
  X509_free(certificate);
  EVP_PKEY_free(key);
  return made;
}

}  // namespace

TestCertificate MakeAuthority(const std::string& name) {
  return Make({.name = name, .from = -absl::Hours(1), .to = absl::Hours(24 * 60)}, nullptr);
}

TestCertificate MakeCertificate(const TestCertificate& authority, const CertificateOptions& options) {
  return Make(options, &authority);
}

std::string WriteFile(const std::string& name, const std::string& text, int mode) {
  const std::string path = ::testing::TempDir() + "/" + std::to_string(getpid()) + "_" + name;
  const std::string next = path + ".next";
  {
    std::ofstream file(next, std::ios::binary);
    file << text;
  }
  MK_CHECK(chmod(next.c_str(), static_cast<mode_t>(mode)) == 0);
  MK_CHECK(std::rename(next.c_str(), path.c_str()) == 0);
  return path;
}

}  // namespace megakernel::testing
