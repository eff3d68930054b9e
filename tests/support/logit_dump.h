// Logits at chosen positions of chosen token sequences: on disk, and compared.
//
// On disk: PREFIX.json {"source", "vocab", "sequences": [{"tokens", "positions"}, ...]} and PREFIX.f32, one row of
// `vocab` little-endian float32 for every sequence and position in that order. tests/reference/logits.py reads and
// writes the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace megakernel::test {

struct LogitSequence {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> positions;  // ascending, each below tokens.size()
};

struct LogitDump {
  std::string source;  // for people: what computed it
  std::int32_t vocab = 0;
  std::vector<LogitSequence> sequences;
  std::vector<float> rows;  // [positions of all sequences, vocab]

  std::int64_t NumRows() const;
};

// InvalidArgument or NotFound, naming the file.
absl::StatusOr<LogitDump> ReadLogitDump(const std::string& prefix);
absl::Status WriteLogitDump(const LogitDump& dump, const std::string& prefix);

// Token i is Draw(seed, i, vocab) of kernels/layout/sampling.h.
std::vector<std::int32_t> RandomTokens(std::uint64_t seed, std::int32_t count, std::int32_t vocab);

struct LogitErrors {
  std::int64_t num_rows = 0;
  double relative_max = 0.0;  // of ||l - ref||2 / ||ref||2 over the rows; infinite where a value is not finite
  double relative_mean = 0.0;
  std::int64_t worst_row = 0;
  double absolute_max = 0.0;
  std::int64_t argmax_differs = 0;
  // Of those, rows where the reference's gap between the two tokens is more than twice absolute_max.
  std::int64_t argmax_differs_beyond_margin = 0;
  std::vector<double> relative;  // per row
};

// REQUIRES: both [num_rows, vocab].
LogitErrors CompareLogits(const std::vector<float>& reference, const std::vector<float>& rows, std::int32_t vocab);

}  // namespace megakernel::test
