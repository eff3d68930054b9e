// From a model's sizes and a device's limits to a Program: groups, tiles, shares, places of every buffer.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/layout/program.h"
#include "kernels/reference/model_view.h"

namespace megakernel::host {

// Longest max_context: far more than shared memory allows any shape.
inline constexpr std::int32_t kMaxContext = 1 << 20;

struct DeviceLimits {
  std::int32_t num_sms = 0;
  std::int32_t shared_bytes = 0;  // dynamic shared memory that a block may have
};

struct ProgramOptions {
  std::int32_t persistent_blocks = 0;  // blocks of the grid; 0: one per SM
  std::int32_t max_lanes = 8;          // 1 .. layout::kMaxLanes
  std::int32_t max_context = 4096;     // positions a lane may have, 1 .. kMaxContext
  std::int32_t num_kv_pages = 0;       // 0: every lane can have max_context positions
  layout::KvLayout kv_layout = layout::KvLayout::kHeadMajor;
  std::int32_t page_tokens = 64;  // a multiple of 64
  // Bulk copies in flight per block, 1 .. kLeastSlots: in the layers and in the LM head.
  std::int32_t window_layers = 2, window_head = 4;
};

// Fills `program`. False when the kernel cannot run these sizes: `error` then names the value, the limit and what would
// do, and `program` is not to be used. Reads the model's sizes and which tensors are there, never their elements; the
// LM head is the embedding when both views have the same data. Pure; any thread.
bool BuildProgram(const reference::ModelView& model, const DeviceLimits& device, const ProgramOptions& options,
                  layout::Program& program, std::string& error);

// The largest persistent_blocks whose program fits shared memory, whatever `options` asks for; 0 when none does. What a
// block needs is not monotonic in the grid: strips are chosen for even shares. REQUIRES: nothing but the grid or shared
// memory is wrong with model and options.
std::int32_t LargestFittingGrid(const reference::ModelView& model, const DeviceLimits& device, ProgramOptions options);

}  // namespace megakernel::host
