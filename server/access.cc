#include "server/access.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/absl_view.h"
#include "engine/core/error.h"

namespace megakernel {
namespace {

constexpr std::string_view kScheme = "Bearer ";

absl::Status Unauthenticated(ErrorReason reason, std::string_view message) {
  return MakeError(absl::StatusCode::kUnauthenticated, reason, message);
}

}  // namespace

std::string_view ScopeName(Scope scope) {
  switch (scope) {
    case Scope::kInfer:
      return "infer";
    case Scope::kSession:
      return "session";
    case Scope::kAdmin:
      return "admin";
  }
  return "";
}

absl::Status Caller::Require(Scope scope) const {
  if (Has(scope)) return absl::OkStatus();
  return MakeError(absl::StatusCode::kPermissionDenied, ErrorReason::kScopeMissing,
                   absl::StrCat("the token does not have the scope ", AbslView(ScopeName(scope))));
}

TokenHash HashToken(std::string_view token) {
  TokenHash hash;
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), hash.data());
  return hash;
}

void AccessControl::SetTokens(std::shared_ptr<const TokenSet> tokens) {
  MutexLock lock(&mutex_);
  tokens_ = std::move(tokens);
}

absl::StatusOr<Caller> AccessControl::Identify(std::span<const std::string_view> authorization) const {
  if (authorization.empty()) {
    return Unauthenticated(ErrorReason::kTokenMissing,
                           "the call carries no token: send the metadata `authorization: Bearer TOKEN`");
  }
  const std::string_view value = authorization.front();
  if (authorization.size() > 1 || !absl::StartsWithIgnoreCase(AbslView(value), AbslView(kScheme))) {
    return Unauthenticated(ErrorReason::kTokenInvalid, "the metadata authorization must be one `Bearer TOKEN`");
  }
  const TokenHash hash = HashToken(value.substr(kScheme.size()));
  std::shared_ptr<const TokenSet> tokens;
  {
    MutexLock lock(&mutex_);
    tokens = tokens_;
  }
  // Hashes are compared in whole, and all of them: neither how much of one matches nor where it stands shows in the
  // time.
  const Caller* caller = nullptr;
  for (const TokenSet::Entry& entry : tokens->entries) {
    if (CRYPTO_memcmp(entry.hash.data(), hash.data(), hash.size()) == 0) caller = &entry.caller;
  }
  if (caller != nullptr) return *caller;
  return Unauthenticated(ErrorReason::kTokenInvalid, "the token is none that this server knows");
}

}  // namespace megakernel
