// Requests of the API to requests of the engine.
//
// Here stand the rules that only the API has: presence and defaults, lengths of names, what excludes what. Ranges that
// an executor relies on are ValidateRequest's (engine/core/request.h), which speaks in the API's field paths too.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/core/request.h"
#include "google/protobuf/duration.pb.h"
#include "megakernel/v1/inference_service.pb.h"

namespace megakernel {

inline constexpr std::size_t kMaxRequestIdBytes = 128;
inline constexpr std::size_t kMaxSessionIdBytes = 64;  // longer ones cannot exist: refused without a look

// Which parts of the output a caller wants in deltas.
struct OutputSelection {
  bool text = true;
  bool token_ids = true;
};

// Checks what needs neither tokenizer nor engine. InvalidArgument naming the field.
absl::Status CheckRequestId(const std::string& request_id);
absl::Status CheckSessionId(const std::string& session_id);  // must be present
absl::Status CheckExpectedLength(std::optional<std::int32_t> expected_length);

// The prompt's tokens are left to the caller; deadline and tenant too. Numbers that the caller left out are those of
// `defaults`, the seed is drawn. InvalidArgument naming the field.
absl::StatusOr<GenerateRequest> ConvertParameters(const SamplingParams& defaults,
                                                  const v1::SamplingParameters& sampling,
                                                  const v1::StoppingCriteria& stopping,
                                                  const v1::OutputOptions& output);

OutputSelection SelectOutput(const v1::OutputOptions& output);

// Unset when the message is not there. InvalidArgument (INVALID_FIELD `field`) when it is no valid duration; its range
// is the engine's to check.
absl::StatusOr<std::optional<absl::Duration>> ConvertDuration(bool present, const google::protobuf::Duration& duration,
                                                              std::string_view field);

// 64 bits from the operating system's generator.
std::uint64_t RandomSeed();
// `bytes` of them, as hexadecimal digits.
std::string RandomName(int bytes);

}  // namespace megakernel
