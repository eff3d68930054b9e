// What the log says of a model's tensors.
#pragma once

#include <string>

#include "engine/model/model.h"

namespace megakernel {

// How many tensors there are of each element type, most first: "BF16:310 F32:113". One that stands for two counts once.
std::string TensorTypeCounts(const ModelWeights& weights);

}  // namespace megakernel
