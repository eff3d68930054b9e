// How much memory there is for keys and values.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/model.h"

namespace megakernel {

// Bytes that this process can still take: what the system has available (MemAvailable), or what the control groups
// leave (versions 1 and 2; page cache that can be dropped does not count as used), whichever is less. `root` is ""
// outside tests, where it stands before /proc and /sys.
std::int64_t AvailableMemory(const std::string& root);

struct MemoryRequest {
  std::int64_t weight_bytes = 0;        // that the executor will hold
  std::int64_t kv_bytes_per_token = 0;  // of one position of one sequence, all layers
  std::int32_t max_context = 0;         // tokens of one sequence
  std::int32_t max_sequences = 0;
  std::int64_t kv_memory = 0;  // as asked for; 0: choose
};

// The bytes to give to keys and values. Chosen: half of what the weights leave of `available`, at most what
// max_sequences full sequences can use. ResourceExhausted naming need and have when weights and the asked-for keys and
// values, or at least one sequence of 256 tokens, do not fit.
absl::StatusOr<std::int64_t> KvBudget(const MemoryRequest& request, std::int64_t available);

// Keys and values of one position, in bytes, with elements of `element_bytes`.
std::int64_t KvBytesPerToken(const ModelConfig& config, int element_bytes);

// All tensors as 4-byte floats.
std::int64_t Fp32WeightBytes(const Model& model);

}  // namespace megakernel
