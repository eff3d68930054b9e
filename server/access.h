// Who calls, and what they may do: bearer tokens with a tenant and scopes.
//
// Sessions and cached prefixes of one tenant are invisible to the others. Without a token file everybody is the default
// tenant with every scope.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/mutex.h"
#include "engine/core/request.h"
#include "engine/core/tenant_quota.h"
#include "server/trace_context.h"

namespace megakernel {

enum class Scope : std::uint8_t {
  kInfer = 1,    // InferenceService
  kSession = 2,  // SessionService, and naming a session in Generate and Decode
  kAdmin = 4,    // AdminService
};

// The one name of a scope: "infer", "session", "admin".
std::string_view ScopeName(Scope scope);

// Who calls. Plain data.
struct Caller {
  std::string tenant = kDefaultTenant;
  std::uint8_t scopes = 7;  // of Scope; default: all
  TraceContext trace = {};  // of the call

  bool Has(Scope scope) const { return (scopes & static_cast<std::uint8_t>(scope)) != 0; }
  // PermissionDenied (SCOPE_MISSING) naming the scope.
  absl::Status Require(Scope scope) const;
};

// SHA-256 of a token.
using TokenHash = std::array<std::uint8_t, 32>;
TokenHash HashToken(std::string_view token);

// What a token file says (token_file.h). Holds hashes only.
struct TokenSet {
  struct Entry {
    TokenHash hash;
    Caller caller;
  };
  std::vector<Entry> entries;
  TenantQuotas::Limits limits;
};

// Thread-safe.
class AccessControl {
 public:
  explicit AccessControl(std::shared_ptr<const TokenSet> tokens) : tokens_(std::move(tokens)) {}

  // For calls from now on; those that run go on.
  void SetTokens(std::shared_ptr<const TokenSet> tokens);

  // Whose token the values of a call's `authorization` metadata hold. Takes equally long whatever the token is.
  // Unauthenticated: TOKEN_MISSING when there is none, TOKEN_INVALID when it is not "Bearer TOKEN", unknown, or one of
  // several.
  absl::StatusOr<Caller> Identify(std::span<const std::string_view> authorization) const;

 private:
  mutable Mutex mutex_;
  std::shared_ptr<const TokenSet> tokens_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace megakernel
