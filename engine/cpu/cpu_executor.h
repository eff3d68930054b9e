// An executor that runs the model on the processor.
//
// One thread of its own takes commands, plans with kernels/layout/plan.h, runs steps on a team of threads, samples and
// emits events. Tokens of a sequence do not depend on what else runs, on the threads, on how its prompt was cut or
// cached, on the page size or on the instruction set: the arithmetic is the same to the last bit.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/base/load_progress.h"
#include "engine/cpu/isa.h"
#include "engine/executor/executor.h"
#include "engine/model/model.h"

namespace megakernel {

enum class CpuPrecision {
  kInt16,  // activations of quantised matrices as 16-bit integers with a scale per 32; the rest in fp32
  kFp32,   // everything in fp32, weights included: the slow reference
};

enum class CpuKvType { kDefault, kFp16, kFp32 };  // the default is fp16, fp32 with CpuPrecision::kFp32

struct CpuOptions {
  std::int32_t threads = 0;      // 0 = as many as affinity and control groups allow
  std::int32_t max_lanes = 64;   // 1 to layout::kMaxLanes
  std::int32_t max_rows = 512;   // 1 to layout::kMaxRows
  std::int32_t max_context = 0;  // 0 = the model's
  // Positions a page holds. Multiples of 64 (the block of attention) are read without copying single elements.
  std::int32_t page_tokens = 64;
  // KV memory: a number of pages, or bytes to fill with pages, or (both 0) pages for 4 whole contexts, at most 1 GiB.
  std::int32_t num_pages = 0;
  std::int64_t kv_bytes = 0;
  CpuIsa isa = CpuIsa::kAuto;
  CpuPrecision precision = CpuPrecision::kInt16;
  CpuKvType kv_type = CpuKvType::kDefault;
  // Fills the unwritten positions of pages with NaN when they are granted, so that a read of them shows.
  bool poison = false;
  LoadProgress progress;  // of the packing, stage "pack"; called by NewCpuExecutor only
};

// Packs the weights (a copy of the file's bytes in another order) and starts the threads. `model` must outlive the
// executor. InvalidArgument naming the option or the tensor and its limit; FailedPrecondition when the processor lacks
// the instruction set; Unimplemented naming what the kernels cannot do; ResourceExhausted when memory is refused.
absl::StatusOr<std::unique_ptr<Executor>> NewCpuExecutor(const Model& model, const CpuOptions& options);

}  // namespace megakernel
