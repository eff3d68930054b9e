// All weights of a model in the order of the CPU kernels, in one block of memory.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/load_progress.h"
#include "engine/cpu/memory.h"
#include "engine/cpu/packed_matrix.h"
#include "engine/cpu/thread_team.h"
#include "engine/model/model.h"

namespace megakernel::cpu {

// Vectors are fp32, padded with zeros to whole blocks of 32; empty where the model has none.
using PackedVector = std::vector<float>;

struct PackedLayer {
  PackedVector attention_norm, ffn_norm, q_norm, k_norm, bq, bk, bv;
  PackedMatrix wq, wk, wv, wo, w_gate, w_up, w_down;
};

// Immutable after Pack. The embedding is read from the model's own tensor (one row a token).
class PackedModel {
 public:
  // `as_float`: every matrix in fp32 (the reference mode). InvalidArgument naming the tensor when a shape does not fit
  // the configuration, Unimplemented naming the dimension that the kernels cannot do, ResourceExhausted. `progress` is
  // told of packed bytes, stage "pack".
  static absl::StatusOr<PackedModel> Pack(const Model& model, bool as_float, ThreadTeam& team,
                                          const LoadProgress& progress = {});

  const std::vector<PackedLayer>& layers() const { return layers_; }
  const PackedVector& final_norm() const { return final_norm_; }
  const PackedMatrix& lm_head() const { return lm_head_; }
  // Of all matrices: what one decode step reads.
  std::int64_t weight_bytes() const { return weight_bytes_; }

 private:
  std::vector<PackedLayer> layers_;
  PackedVector final_norm_;
  PackedMatrix lm_head_;
  Memory memory_;
  std::int64_t weight_bytes_ = 0;
};

}  // namespace megakernel::cpu
