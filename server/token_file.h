// The file of --auth-tokens:
//
//   {
//     "tokens": [
//       {"tenant": "acme", "scopes": ["infer", "session"], "sha256": "9f86d0...", "note": "the web shop"},
//       {"tenant": "ops", "scopes": ["admin"], "token": "a-secret-of-16-bytes-or-more"}
//     ],
//     "tenants": {"acme": {"sessions": 100, "kv_pages": 500, "queued_requests": 32,
//                          "tokens_per_second": 2000, "burst_tokens": 10000}}
//   }
//
// Each token stands in plain or as the SHA-256 of it (`printf %s "$TOKEN" | sha256sum`). Tenants that are not listed,
// and limits that are not given, have none of their own (TenantLimits).
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "server/access.h"

namespace megakernel {

inline constexpr std::size_t kMaxTokenFileBytes = 4 << 20;
inline constexpr std::size_t kMaxTokens = 4096;
inline constexpr std::size_t kMinTokenBytes = 16;
inline constexpr std::size_t kMaxTokenBytes = 512;
inline constexpr std::size_t kMaxTenantBytes = 64;

// InvalidArgument names `source`, the entry and its field ("tokens[2].scopes[0]"), and quotes no token.
absl::StatusOr<TokenSet> ParseTokenFile(const std::string& text, const std::string& source);

// The same of a file; errors of ReadSmallFile.
absl::StatusOr<TokenSet> ReadTokenFile(const std::string& path);

}  // namespace megakernel
