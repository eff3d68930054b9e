#include "clients/cli/connection_flags.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace megakernel::cli {
namespace {

constexpr char kTokenVariable[] = "MEGAKERNEL_TOKEN";

absl::Status ReadFile(const char* flag, const std::string& path, std::string* text) {
  if (path.empty()) return absl::OkStatus();
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::InvalidArgumentError(absl::StrCat("--", flag, ": ", path, ": ", std::strerror(errno)));
  text->assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  if (!file.bad() && !text->empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": ", path, ": is empty, or no plain file"));
}

// What a metadata value carries.
absl::Status CheckToken(const std::string& from, const std::string& token) {
  for (const char c : token) {
    if (c <= ' ' || c > '~') {
      return absl::InvalidArgumentError(absl::StrCat(from, ": a token has visible ASCII characters only"));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadToken(const ConnectionFlags& flags, std::string* token) {
  if (flags.token_file.empty()) {
    const char* set = std::getenv(kTokenVariable);
    if (set != nullptr) *token = set;
    return CheckToken(absl::StrCat("$", kTokenVariable), *token);
  }
  if (absl::Status status = ReadFile("token-file", flags.token_file, token); !status.ok()) return status;
  *token = std::string(absl::StripAsciiWhitespace(*token));
  if (token->empty()) return absl::InvalidArgumentError(absl::StrCat("--token-file: ", flags.token_file, ": no token"));
  return CheckToken(absl::StrCat("--token-file: ", flags.token_file), *token);
}

}  // namespace

void AddConnectionFlags(FlagSet* flags, ConnectionFlags* target) {
  flags->Switch("tls",
                "Connect with TLS, trusting the authorities that this machine trusts. --tls-ca and --tls-cert do too.",
                &target->tls);
  flags->Text("tls-ca", "FILE", "Trust the authorities in this PEM file, and no others.", &target->tls_ca);
  flags->Text("tls-cert", "FILE", "This client's certificate, PEM, where the server asks for one (mutual TLS).",
              &target->tls_cert);
  flags->Text("tls-key", "FILE", "The key of --tls-cert, PEM.", &target->tls_key);
  flags->Text("tls-server-name", "NAME", "Expect this name in the server's certificate. Default: that of --server.",
              &target->tls_server_name);
  flags->Text("token-file", "FILE", absl::StrCat("Send the bearer token in this file. Default: $", kTokenVariable, "."),
              &target->token_file);
  flags->Switch("allow-unencrypted-token", "Send it without TLS also to another machine: the network is trusted.",
                &target->allow_unencrypted_token);
}

absl::Status ReadConnectionFlags(const ConnectionFlags& flags, client::ConnectOptions* options) {
  if (flags.tls_cert.empty() != flags.tls_key.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key go together");
  }
  if (flags.tls || !flags.tls_ca.empty() || !flags.tls_cert.empty() || !flags.tls_server_name.empty()) {
    client::TlsOptions tls;
    if (absl::Status status = ReadFile("tls-ca", flags.tls_ca, &tls.authorities); !status.ok()) return status;
    if (absl::Status status = ReadFile("tls-cert", flags.tls_cert, &tls.certificate); !status.ok()) return status;
    if (absl::Status status = ReadFile("tls-key", flags.tls_key, &tls.key); !status.ok()) return status;
    tls.server_name = flags.tls_server_name;
    options->tls = tls;
  }
  options->allow_unencrypted_token = flags.allow_unencrypted_token;
  return ReadToken(flags, &options->token);
}

}  // namespace megakernel::cli
