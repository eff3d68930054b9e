// Weights into the form that the kernel streams: fp16 tiles (kernels/layout/tile.h) with one power-of-two scale per
// row.
#pragma once

#include <cstdint>

#include "kernels/layout/program.h"
#include "kernels/reference/model_view.h"

namespace megakernel::host {

struct PackStatistics {
  // Values that fp16 with their row's scale does not hold exactly. None for bf16 and fp16 files, but for values below
  // their row's maximum x 2^-30.
  std::int64_t inexact = 0;
};

// Writes all weights of `program` into `arena` [program.weight_bytes], padding as zeros. Adds to `statistics`.
// Order: QKV rows of a group are its query heads, its key head, its value head; gate/up rows alternate eight of gate,
// eight of up; O and down are cut by columns, one part per KV head. `threads` threads share the work.
// REQUIRES: BuildProgram(model, ...) made `program`; the weights are finite; threads >= 1.
void PackWeights(const reference::ModelView& model, const layout::Program& program, int threads, std::uint8_t* arena,
                 PackStatistics& statistics);

}  // namespace megakernel::host
