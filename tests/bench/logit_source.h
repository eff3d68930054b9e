// Whatever can compute logits at chosen positions: the seam between `verify` and what it verifies.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model.h"
#include "tests/support/logit_dump.h"

namespace megakernel::bench {

class LogitSource {
 public:
  virtual ~LogitSource() = default;

  // One row of `vocab` floats for every sequence and position, in that order.
  virtual absl::StatusOr<std::vector<float>> Rows(const std::vector<test::LogitSequence>& sequences) = 0;
};

struct LogitSourceOptions {
  std::string precision;  // what the backend offers
  int threads = 1;
  bool float_angles = false;  // RoPE angles rounded to float, as transformers forms them
  int kv_layout = 1;          // of a GPU's KV pages: 0 token-major, 1 head-major
};

// A backend of `verify`. `model` outlives the source. InvalidArgument when the options do not fit the backend.
struct LogitBackend {
  const char* name;
  const char* precisions;  // for people
  absl::StatusOr<std::unique_ptr<LogitSource>> (*make)(const Model& model, const LogitSourceOptions& options);
};

// precision fp64 or fp32: kernels/reference.
absl::StatusOr<std::unique_ptr<LogitSource>> MakeReferenceSource(const Model& model, const LogitSourceOptions& options);

// precision default: the resident kernel. In builds with MEGAKERNEL_CUDA.
absl::StatusOr<std::unique_ptr<LogitSource>> MakeCudaSource(const Model& model, const LogitSourceOptions& options);

}  // namespace megakernel::bench
