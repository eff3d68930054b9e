// Random-weight checkpoints in the Hugging Face layout, reproducible from a config and a seed.
//
// Scales, so that activations neither die nor blow up over any depth. Every matrix has std = gain / sqrt(inputs), and
// every matrix but the head reads a normalised vector (root mean square about 1), so its outputs have a root mean
// square of about `gain`, whatever the shape:
//   queries and keys  gain 1.25, or gain 1 under q_norm and k_norm weights of mean 1.25: scores q.k / sqrt(head_dim) of
//                     std 1.6. Sharper attention multiplies rounding errors (std 2.25: three times those of std 1, more
//                     than trained models show); flatter attention averages so many values at long contexts that a
//                     page left out would not be seen
//   values, gate, up  gain 1
//   o, down           gain 0.5: a layer adds a root mean square of about 0.3 to 0.6, so the residual grows as the root
//                     of the depth (about 2 to 3 after 28 layers)
//   embedding, head   gain 2.5: logits of std about 2.5
//   norm weights      mean 1, std 0.1; biases std 0.5
// Values: weight_generator.h. The same directory, byte for byte, comes from tests/reference/make_checkpoint.py.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/model.h"
#include "tests/support/weight_generator.h"

namespace megakernel::test {

struct PlannedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  Distribution distribution;

  std::int64_t Elements() const;
};

// Every tensor of the model under its Hugging Face name, in the order of the file.
std::vector<PlannedTensor> PlanTensors(const ModelConfig& config);

struct CheckpointOptions {
  std::string config_text;  // of config.json; copied as it is
  std::uint64_t seed = 0;
  TensorType type = TensorType::kBF16;  // kBF16, kF16 or kF32
  int max_shards = 1;                   // 1 = model.safetensors; else up to that many shards and an index
  int threads = 1;
};

// Writes config.json (last, so that an unfinished directory does not load), the tensors and, when sharded, the index.
// `directory` is made; it must not exist or be empty. InvalidArgument names what is wrong with the options, Internal
// the file that could not be written. Returns the bytes of all tensors.
absl::StatusOr<std::int64_t> WriteCheckpoint(const CheckpointOptions& options, const std::string& directory);

}  // namespace megakernel::test
