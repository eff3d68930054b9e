// The tensors of a GGUF file as the weights of a model.
#pragma once

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/gguf_file.h"
#include "engine/model/model.h"

namespace megakernel {

// Buffers of tensors that had to be rearranged. Moving it keeps the addresses.
using OwnedTensors = std::vector<std::vector<std::byte>>;

// Finds every tensor that `config` asks for and checks shape, type and numbers: no value of a plain type and no block
// scale of a quantised one may be NaN or infinite. A tensor that `config` has no use for is refused too, for it would
// change the answers of a program that used it. Views point into the file, and into `owned` where rows were rearranged:
// files of architecture llama hold the rows of attn_q and attn_k for RoPE on neighbours. Errors name the tensor.
// `progress` is told of the tensors whose numbers were read, stage "check".
absl::StatusOr<ModelWeights> BindGgufWeights(const GgufFile& file, const ModelConfig& config, OwnedTensors& owned,
                                             const LoadProgress& progress = {});

// Undoes the arrangement of llama files: row 2i + j of a head goes to row j * head_dim / 2 + i. Works for every type,
// since a row is contiguous. REQUIRES: tensor.rows is a multiple of head_dim.
// Source: llama.cpp, convert_hf_to_gguf.py, LlamaModel.permute.
std::vector<std::byte> RowsForRopeOnHalves(const TensorView& tensor, std::int32_t head_dim);

}  // namespace megakernel
