// What one generation asks for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/core/error.h"
#include "engine/executor/executor.h"

namespace megakernel {

inline constexpr char kDefaultTenant[] = "default";

// Most of each list that a request may carry: they are copied to the executor, per lane.
inline constexpr int kMaxStopStrings = 16;
inline constexpr int kMaxStopStringBytes = 1024;
inline constexpr int kMaxStopTokens = 64;
inline constexpr int kMaxLogitBias = 1024;
inline constexpr int kMaxAllowedTokens = 65536;
inline constexpr int kMaxChoices = 16;

struct GenerateRequest {
  // Sessions and cached prefixes of one tenant are invisible to the others.
  std::string tenant = kDefaultTenant;

  // The session to continue. Empty: a fresh sequence, dropped at the end unless `keep_session`, in which case it
  // becomes a session whose id the Started update carries.
  std::string session_id;
  bool keep_session = false;
  // Of the session before `tokens` are added; a different length is refused with LENGTH_MISMATCH, so that a repeated
  // request cannot append twice.
  std::optional<std::int32_t> expected_length;

  // Appended before generating. May be empty when the session has tokens: generation goes on where it ended.
  std::vector<TokenId> tokens;

  // sampling.stop_tokens holds the request's own; the model's end-of-sequence tokens are added unless `ignore_eos`.
  // min_tokens holds back stop tokens, not stop strings. Choice i of n draws with seed + i. When the client gave no
  // seed, the caller draws one.
  SamplingParams sampling;
  bool ignore_eos = false;

  // Tokens to generate at most. 0 appends and generates nothing: keys and values are written up to the last token but
  // one (and prompt logprobs reported, if asked for). Unset: as many as the context holds.
  std::optional<std::int32_t> max_tokens;

  // Generation ends when the text contains one of these; the text is cut before it, or after it with `include_stop`.
  // The token that completes the string is the last of the output. They work without `wants_text` too.
  std::vector<std::string> stop_strings;
  bool include_stop = false;

  bool wants_text = true;
  bool skip_special_tokens = true;  // in text

  // When it passes, the generation ends like a cancel, with DEADLINE_EXCEEDED.
  absl::Time deadline = absl::InfiniteFuture();

  // Alternatives for one prompt, which is read once. More than one needs a fresh sequence that is not kept.
  std::int32_t n = 1;
};

// Everything about `request` that does not depend on a session: ranges, list sizes, token ids, features of the
// executor, and that the prompt and max_tokens fit `max_context` tokens.
// InvalidArgument (INVALID_FIELD, CONTEXT_EXCEEDED) or Unimplemented (UNSUPPORTED), naming field, value and limit.
absl::Status ValidateRequest(const GenerateRequest& request, const ExecutorInfo& info, std::int32_t max_context);

}  // namespace megakernel
