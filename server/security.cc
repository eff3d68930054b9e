#include "server/security.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "server/listen_check.h"
#include "server/token_file.h"
#include "spdlog/spdlog.h"

namespace megakernel {
namespace {

absl::Status OfFlag(const char* flag, const absl::Status& status) {
  return absl::FailedPreconditionError(absl::StrCat("--", flag, ": ", status.message()));
}

void LogTls(const TlsFiles& files) {
  const auto identity = files.identity();
  spdlog::info("tls certificate=\"{}\" subject=\"{}\" not_after={} client_certificates={}", files.paths().certificate,
               identity->subject, absl::FormatTime(absl::RFC3339_sec, identity->not_after, absl::UTCTimeZone()),
               files.mutual() ? "required" : "no");
  if (const std::string warning = DateWarning(*identity, absl::Now()); !warning.empty()) {
    spdlog::warn("tls {}: {}", files.paths().certificate, warning);
  }
  if (EverybodyMayRead(files.paths().key)) {
    spdlog::warn("tls {}: everybody on this machine may read the key", files.paths().key);
  }
}

void LogTokens(const std::string& path, const TokenSet& tokens) {
  std::set<std::string> tenants;
  for (const TokenSet::Entry& entry : tokens.entries) tenants.insert(entry.caller.tenant);
  spdlog::info("tokens file=\"{}\" tokens={} tenants={} with_limits={}", path, tokens.entries.size(), tenants.size(),
               tokens.limits.size());
  if (EverybodyMayRead(path)) spdlog::warn("tokens {}: everybody on this machine may read the file", path);
}

// What is allowed, and what somebody should know of.
void LogReach(const ServerOptions& options, bool local) {
  if (local) return;
  const bool encrypted = !options.tls_cert.empty();
  if (!encrypted) spdlog::warn("listen {}: prompts, answers and tokens travel unencrypted", options.listen);
  if (options.auth_tokens.empty() && options.tls_client_ca.empty()) {
    spdlog::warn("listen {}: everybody who can reach it may use it; see --auth-tokens and --tls-client-ca",
                 options.listen);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Security>> Security::Open(const ServerOptions& options, absl::Duration interval) {
  const absl::Status listen = CheckListen(options.listen, !options.tls_cert.empty(), options.insecure_listen);
  if (!listen.ok()) return absl::Status(listen.code(), absl::StrCat("--listen ", listen.message()));
  MK_ASSIGN_OR_RETURN(const bool local, IsLocalOnly(options.listen));
  std::unique_ptr<Security> security(new Security());
  if (!options.tls_cert.empty()) {
    TlsPaths paths = {.certificate = options.tls_cert, .key = options.tls_key, .client_ca = options.tls_client_ca};
    security->tls_paths_ = paths.All();
    security->tls_stamps_ = FileStamps(security->tls_paths_);
    auto files = TlsFiles::Open(std::move(paths));
    if (!files.ok()) return OfFlag("tls-cert, --tls-key, --tls-client-ca", files.status());
    security->tls_ = *std::move(files);
    LogTls(*security->tls_);
  }
  if (!options.auth_tokens.empty()) {
    security->token_paths_ = {options.auth_tokens};
    security->token_stamps_ = FileStamps(security->token_paths_);
    auto tokens = ReadTokenFile(options.auth_tokens);
    if (!tokens.ok()) return OfFlag("auth-tokens", tokens.status());
    security->quotas_.SetLimits(tokens->limits);
    LogTokens(options.auth_tokens, *tokens);
    security->access_.emplace(std::make_shared<const TokenSet>(*std::move(tokens)));
  }
  LogReach(options, local);
  if (security->tls_ != nullptr || security->access_.has_value()) {
    security->thread_ = std::thread([raw = security.get(), interval] { raw->Watch(interval); });
  }
  return security;
}

Security::~Security() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

absl::Status Security::ReloadTls() {
  if (tls_ == nullptr) return absl::OkStatus();
  MutexLock lock(&reload_mutex_);
  const absl::Status status = tls_->Reload(absl::Now());
  if (status.ok()) {
    LogTls(*tls_);
  } else {
    spdlog::error("tls not taken, the one before stays in use: {}", std::string(status.message()));
  }
  return status;
}

absl::Status Security::ReloadTokens() {
  if (!access_.has_value()) return absl::OkStatus();
  MutexLock lock(&reload_mutex_);
  auto tokens = ReadTokenFile(token_paths_.front());
  if (!tokens.ok()) {
    spdlog::error("tokens not taken, those before stay in use: {}", std::string(tokens.status().message()));
    return tokens.status();
  }
  LogTokens(token_paths_.front(), *tokens);
  quotas_.SetLimits(tokens->limits);
  access_->SetTokens(std::make_shared<const TokenSet>(*std::move(tokens)));
  return absl::OkStatus();
}

absl::Status Security::Reload() {
  const absl::Status tls = ReloadTls();
  const absl::Status tokens = ReloadTokens();
  return tls.ok() ? tokens : tls;
}

void Security::Watch(absl::Duration interval) {
  const auto stop = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_; };
  while (true) {
    {
      MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(stop, interval)) return;
    }
    // Taken before reading: what is written meanwhile differs the next time.
    if (FileStamps now(tls_paths_); !(now == tls_stamps_)) {
      tls_stamps_ = std::move(now);
      ReloadTls().IgnoreError();
    }
    if (FileStamps now(token_paths_); !(now == token_stamps_)) {
      token_stamps_ = std::move(now);
      ReloadTokens().IgnoreError();
    }
  }
}

}  // namespace megakernel
