// What becomes of the sums of QKV and gate/up: packets to the blocks of the group.
#pragma once

#include "kernels/device/gemm.cuh"

namespace megakernel::device {

// Rows of 16-row parts -> the group's QKV packets, fp32, bias added.
__device__ __forceinline__ void PublishQkv(Block& b, std::int32_t layer, std::int32_t first_part, std::int32_t parts) {
  const Program& p = b.program;
  const PhaseShare& share = b.state.shares[layout::kPhaseQkv];
  const std::int32_t shift = b.pitch == 1 ? 0 : 3, task_floats = layout::kTaskRows * b.pitch;
  const float* partial = reinterpret_cast<const float*>(b.shared + p.shared.partial);
  const std::int32_t group_rows = p.matrix[layout::kPhaseQkv].group_rows;
  const float* vectors = b.Vectors(layer) + b.group * group_rows;
  std::uint64_t* target = reinterpret_cast<std::uint64_t*>(b.args.workspace + p.workspace.qkv) +
                          std::int64_t{b.group} * p.max_rows * p.QkvRows();
  for (std::int32_t i = threadIdx.x; i < (parts * layout::kTaskRows) << shift; i += 32 * layout::kConsumerWarps) {
    const std::int32_t local = i >> shift, n = i & (b.pitch - 1);
    const std::int32_t row = share.first_row + first_part * layout::kTaskRows + local;
    if (n >= b.rows || row >= p.QkvRows()) continue;
    const float scale = __ldg(vectors + p.vector.qkv_scale + row);
    const float bias = p.qkv_bias ? __ldg(vectors + p.vector.qkv_bias + row) : 0.0f;
    const float sum = AddChunks(partial + (local >> 4) * share.chunks * task_floats + ((local & 15) << shift) + n,
                                task_floats, share.chunks);
    StoreRelaxed(target + n * p.QkvRows() + row, MakePacket(__float_as_uint(fmaf(sum, scale, bias)), b.layer_epoch));
  }
}

// A 16-row part holds eight rows of gate and the eight rows of up that belong to them. SwiGLU -> the group's packets of
// two fp16. Lanes of a warp hold units in ascending order, so a pair is two lanes.
__device__ __forceinline__ void PublishSwiglu(Block& b, std::int32_t layer, std::int32_t first_part,
                                              std::int32_t parts) {
  const Program& p = b.program;
  const PhaseShare& share = b.state.shares[layout::kPhaseGateUp];
  const std::int32_t shift = b.pitch == 1 ? 0 : 3, task_floats = layout::kTaskRows * b.pitch;
  const float* partial = reinterpret_cast<const float*>(b.shared + p.shared.partial);
  const float* scales = b.Vectors(layer) + p.vector.gate_up_scale + b.group * p.matrix[layout::kPhaseGateUp].group_rows;
  const std::int32_t first_row = share.first_row + first_part * layout::kTaskRows;
  const std::int32_t units = p.FfnPerGroup();
  std::uint64_t* target = reinterpret_cast<std::uint64_t*>(b.args.workspace + p.workspace.act) +
                          std::int64_t{b.group} * p.max_rows * (units >> 1);
  const std::int32_t count = (parts * 8) << shift;
  for (std::int32_t i = threadIdx.x; i < ((count + 31) & ~31); i += 32 * layout::kConsumerWarps) {
    const std::int32_t local = i >> shift, n = i & (b.pitch - 1);
    const std::int32_t row = (local >> 3) * layout::kTaskRows + (local & 7);  // of gate, in the pass
    const std::int32_t unit = (first_row >> 1) + local;
    const bool valid = i < count && n < b.rows && unit < units;
    float value = 0.0f;
    if (valid) {
      const float* first = partial + (row >> 4) * share.chunks * task_floats + ((row & 15) << shift) + n;
      const float gate = AddChunks(first, task_floats, share.chunks) * __ldg(scales + first_row + row);
      const float up = AddChunks(first + (8 << shift), task_floats, share.chunks) * __ldg(scales + first_row + row + 8);
      value = gate * __frcp_rn(1.0f + Exp2(gate * -1.44269504f)) * up * layout::kSwigluScale;
      value = value > layout::kHalfMax ? layout::kHalfMax : value < -layout::kHalfMax ? -layout::kHalfMax : value;
    }
    const float next = __shfl_down_sync(0xffffffffu, value, b.pitch);
    if (valid && (local & 1) == 0) {
      StoreRelaxed(target + n * (units >> 1) + (unit >> 1), MakePacket(PackHalf2(value, next), b.layer_epoch));
    }
  }
}

}  // namespace megakernel::device
