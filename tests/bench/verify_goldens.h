// The part of `megakernel-bench verify` that compares with thinned goldens (tests/support/parity_goldens.h).
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "tests/support/parity_goldens.h"

namespace megakernel::bench {

struct GoldensOptions {
  std::string goldens;    // prefix
  std::string model;      // a path; empty: the checkpoint of the goldens' config and seed is made, in three shards
  std::string backend;    // cpu or server
  std::string precision;  // default or fp32
  int threads = 1;        // for making the checkpoint
  int exact_tokens = 0;   // of each sequence, for the bound: tests/engine/cpu/parity_check.h
};

// The result as an object whose "pass" says whether every bound held.
absl::StatusOr<nlohmann::ordered_json> VerifyGoldens(const GoldensOptions& options);

// What VerifyGoldens does for the backend "server": starts $MEGAKERNEL_BIN/megakernel-server on the model and asks for
// log probabilities over gRPC. `bound` is that of a logit. Adds what was seen to `result`.
absl::Status VerifyServer(const std::string& model_path, const test::ParityGoldens& goldens, double bound,
                          const std::string& precision, nlohmann::ordered_json& result);

}  // namespace megakernel::bench
