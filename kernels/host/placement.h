// Where a program's weights, workspace and shared memory lie. Each function fills its part of a Program whose model
// sizes and grid are set; regions are aligned to 1 KiB in GPU memory and to 16 bytes in shared memory.
#pragma once

#include <cstdint>

#include "kernels/layout/program.h"

namespace megakernel::host {

// Fewest slots of the ring that shared memory must hold, and most that are used.
inline constexpr std::int32_t kLeastSlots = 5;
inline constexpr std::int32_t kMostSlots = 12;

// Matrices and their tiles, vectors, weight_bytes. `tied`: the LM head is the embedding.
void PlaceWeights(bool tied, layout::Program& program);

// WorkspaceOffsets. Needs PlaceWeights.
void PlaceWorkspace(layout::Program& program);

// SharedOffsets with as many slots as fit `shared_bytes`; false when not even kLeastSlots do: then shared.total says
// what they need. Needs PlaceWeights.
bool PlaceShared(std::int32_t shared_bytes, layout::Program& program);

}  // namespace megakernel::host
