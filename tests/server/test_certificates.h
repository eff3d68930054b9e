// Certificates for tests, made on the spot: authorities, servers, clients, expired ones.
#pragma once

#include <memory>
#include <string>

#include "absl/time/time.h"

namespace megakernel::testing {

// An authority, or somebody's certificate with its key. PEM.
struct TestCertificate {
  std::string certificate;
  std::string key;
};

struct CertificateOptions {
  std::string name = "localhost";  // common name, and the DNS name it is for; 127.0.0.1 is added
  absl::Duration from = -absl::Hours(1);
  absl::Duration to = absl::Hours(24 * 30);  // both relative to now
};

// Signs itself. EC P-256.
TestCertificate MakeAuthority(const std::string& name);
TestCertificate MakeCertificate(const TestCertificate& authority, const CertificateOptions& options = {});

// A file in the test's folder; returns its path. `mode` as chmod has it.
std::string WriteFile(const std::string& name, const std::string& text, int mode = 0600);

}  // namespace megakernel::testing
