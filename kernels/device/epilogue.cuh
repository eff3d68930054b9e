// What becomes of the sums of QKV and gate/up: packets to the blocks of the group.
#pragma once

#include "kernels/device/gemm.cuh"

namespace megakernel::device {

// Rows of 16-row parts -> the group's QKV packets, fp32, bias added.
template <class M, bool kOneRow>
__device__ __forceinline__ void PublishQkv(const Block& b, std::int32_t first_part, std::int32_t parts) {
  const Program& p = kernel_args.program;
  const std::int32_t chunks = M::template Chunks<layout::kPhaseQkv>();
  const float* partial = SharedRegion<float>(p.shared.partial);
  const std::int32_t first_row = State().shares[layout::kPhaseQkv].first_row;
  std::uint64_t* target =
      Workspace<std::uint64_t>(p.workspace.qkv) + std::int64_t{State().group} * layout::kGpuMaxRows * M::QkvRows();
  constexpr int kShift = kOneRow ? 2 : 3;  // lanes of a row's sum, or rows of the step
  const std::int32_t count = (parts * layout::kTaskRows) << kShift;
#pragma unroll 1
  for (std::int32_t i = b.thread; i < count; i += 32 * layout::kConsumerWarps) {
    const std::int32_t local = i >> kShift, low = i & ((1 << kShift) - 1);
    const float* sums = partial + (local >> 4) * PartStride<kOneRow>(chunks);
    float sum;
    if constexpr (kOneRow) {
      sum = AddChunksByFour(sums + (local & 15), chunks, low);
    } else {
      sum = AddChunks<false>(sums + ((local & 15) << 3) + low, chunks);
    }
    const std::int32_t held = first_part * layout::kTaskRows + local, row = first_row + held;
    const std::int32_t n = kOneRow ? 0 : low;
    if ((kOneRow ? low != 0 : n >= b.template Rows<kOneRow>()) || row >= M::QkvRows()) continue;
    const float bias = M::QkvBias() ? Held(p.held.qkv_bias)[held] : 0.0f;
    StoreRelaxed(target + n * M::QkvRows() + row,
                 MakePacket(__float_as_uint(fmaf(sum, Held(p.held.qkv_scale)[held], bias)), b.layer_epoch));
  }
}

__device__ __forceinline__ float Swiglu(float gate, float up) {
  const float value = gate * __frcp_rn(1.0f + Exp2(gate * -1.44269504f)) * up * layout::kSwigluScale;
  return value > layout::kHalfMax ? layout::kHalfMax : value < -layout::kHalfMax ? -layout::kHalfMax : value;
}

// A 16-row part holds eight rows of gate and the eight rows of up that belong to them. SwiGLU -> the group's packets of
// two fp16. Lanes of a warp hold units in ascending order, so a pair is two lanes.
template <class M, bool kOneRow>
__device__ __forceinline__ void PublishSwiglu(const Block& b, std::int32_t first_part, std::int32_t parts) {
  const Program& p = kernel_args.program;
  const std::int32_t chunks = M::template Chunks<layout::kPhaseGateUp>();
  const float* partial = SharedRegion<float>(p.shared.partial);
  const std::int32_t first_unit = (State().shares[layout::kPhaseGateUp].first_row >> 1) + first_part * 8;
  const float* scales = Held(p.held.gate_up_scale) + first_part * layout::kTaskRows;
  const std::int32_t units = M::FfnPerGroup();
  std::uint64_t* target =
      Workspace<std::uint64_t>(p.workspace.act) + std::int64_t{State().group} * layout::kGpuMaxRows * (units >> 1);
  const std::int32_t count = (parts * 8) << 3;
#pragma unroll 1
  for (std::int32_t i = b.thread; i < ((count + 31) & ~31); i += 32 * layout::kConsumerWarps) {
    const std::int32_t local = i >> 3, low = i & 7;
    const std::int32_t row = (local >> 3) * layout::kTaskRows + (local & 7);  // of gate, in the pass
    const std::int32_t unit = first_unit + local;
    const float* sums = partial + (row >> 4) * PartStride<kOneRow>(chunks);
    float value = 0.0f;
    bool valid = i < count && unit < units;
    if constexpr (kOneRow) {  // lanes 0-3 of eight add gate, 4-7 up
      const std::int32_t mine = valid ? row + ((low >> 2) << 3) : 0;
      const float sum = AddChunksByFour(sums + (mine & 15), chunks, low & 3) * scales[mine];
      const float up = __shfl_down_sync(0xffffffffu, sum, 4);
      value = Swiglu(sum, up);
      valid = valid && low == 0;
    } else if (valid && low < b.template Rows<kOneRow>()) {
      const float gate = AddChunks<false>(sums + ((row & 15) << 3) + low, chunks) * scales[row];
      const float up = AddChunks<false>(sums + ((row & 15) << 3) + 64 + low, chunks) * scales[row + 8];
      value = Swiglu(gate, up);
    }
    const std::int32_t n = kOneRow ? 0 : low;
    const float next = __shfl_down_sync(0xffffffffu, value, 8);
    if (valid && n < b.template Rows<kOneRow>() && (local & 1) == 0) {
      StoreRelaxed(target + n * (units >> 1) + (unit >> 1), MakePacket(PackHalf2(value, next), b.layer_epoch));
    }
  }
}

}  // namespace megakernel::device
