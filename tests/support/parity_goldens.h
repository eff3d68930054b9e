// Logits of transformers on one model, thinned so that goldens of real vocabularies stay small. Written by
// tests/reference/parity_goldens.py, where the files are described.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace megakernel::test {

// Logits at one position.
struct ParityRow {
  std::vector<std::int32_t> top_ids;  // of the largest logits, largest first
  std::vector<float> top_logits;
  float log_sum = 0.0f;                   // log of the sum of exponentials of all logits
  std::vector<std::int32_t> sampled_ids;  // drawn from the whole vocabulary
  std::vector<float> sampled_logits;
};

struct ParitySequence {
  std::vector<std::int32_t> tokens;
  std::int32_t first = 0;
  std::vector<ParityRow> rows;  // after the tokens from index `first` on: tokens.size() - first
};

struct ParityGoldens {
  std::string source;  // for people: what computed them
  std::string config;  // preset of configs/models; empty for goldens of a file
  std::uint64_t seed = 0;
  std::int32_t vocab = 0;
  std::vector<ParitySequence> sequences;
};

// Reads PREFIX.json and PREFIX.rows. InvalidArgument or NotFound, naming the file.
absl::StatusOr<ParityGoldens> ReadParityGoldens(const std::string& prefix);

// Differences from goldens over any number of rows.
class ParityErrors {
 public:
  // REQUIRES: `logits` is a whole row of the vocabulary.
  void Add(const ParityRow& row, std::span<const float> logits);
  // One logit, or log probability, that was compared elsewhere.
  void AddDifference(double difference);
  // `chosen` is the argmax that stands against the row's.
  void AddArgmax(const ParityRow& row, std::int32_t chosen);

  std::int64_t num_rows() const { return num_rows_; }
  std::int64_t num_logits() const { return num_logits_; }
  // Infinite where a value was not finite.
  double absolute_max() const { return absolute_max_; }
  double root_mean_square() const;
  std::int64_t argmax_differs() const { return static_cast<std::int64_t>(gaps_.size()); }
  // Of those: the reference's largest gap between its own token and the one chosen; infinite where the latter is not
  // among the row's top ids.
  double widest_gap() const;
  // Of those: rows whose gap is more than twice absolute_max().
  std::int64_t argmax_differs_beyond_margin() const;

 private:
  std::int64_t num_rows_ = 0;
  std::int64_t num_logits_ = 0;
  double absolute_max_ = 0.0;
  double squares_ = 0.0;
  std::vector<double> gaps_;
};

}  // namespace megakernel::test
