// A sequence that stays between calls: its tokens, and their keys and values as long as memory allows.
//
// One operation at a time: a second one gets SESSION_BUSY. Lengths count tokens, the last one included though its key
// and value are written by the step that samples after it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/executor/executor.h"

namespace megakernel {

struct SessionInfo {
  std::string id;              // 128 random bits, 32 hex digits
  std::string parent_id;       // the session it was forked from; empty for none
  std::int32_t length = 0;     // tokens
  std::int32_t kv_length = 0;  // leading tokens whose keys and values are in memory; < length unless both are 0
  std::int32_t capacity = 0;   // tokens it may grow to
  absl::Time created;
  absl::Time last_used;  // end of the last operation
  absl::Time expires;    // when it goes if nothing happens; InfiniteFuture while busy
  bool busy = false;
  std::vector<TokenId> tokens;  // only when asked for
};

struct SessionPage {
  std::vector<SessionInfo> sessions;  // oldest first
  std::string next_page_token;        // empty at the end
};

// Called once, on the engine thread: must not block.
using SessionCallback = absl::AnyInvocable<void(absl::StatusOr<SessionInfo>)>;
using SessionPageCallback = absl::AnyInvocable<void(absl::StatusOr<SessionPage>)>;

// Time to live that a client may choose.
inline constexpr absl::Duration kMinSessionTtl = absl::Seconds(1);
inline constexpr absl::Duration kMaxSessionTtl = absl::Hours(24);

// Largest page of ListSessions.
inline constexpr int kMaxSessionPage = 1000;

}  // namespace megakernel
