// What must hold of a program before it runs, whoever made it: every part of the work has one block that does it, every
// wait has those that end it, nothing lies over anything else. BuildProgram's programs pass; a program that does not
// would hang, fault or give wrong numbers.
#pragma once

#include <string>

#include "kernels/layout/program.h"

namespace megakernel::host {

// Empty, or what is wrong: the field, its value, what it must be. Pure.
//
// Sizes      what the kernel's code assumes of model, grid, rows, lanes and pages
// Matrices   rows and columns of each phase are the model's, padded to whole row groups of legal tiles
// Work       every row group of every phase belongs to exactly one block of the grid
// Residual   every column gets one contribution from each group in O and in down, so its readers' counts come true,
//            and has one owner, which adds the embedding
// Places     regions of weights, workspace and shared memory are aligned, inside, and apart
// Ring       slots hold the tiles in flight; sums of a pass fit where they are kept
std::string CheckProgram(const layout::Program& program);

}  // namespace megakernel::host
