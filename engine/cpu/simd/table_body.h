// Fills a KernelTable for one vector. Included by one translation unit per instruction set.
#pragma once

#include "engine/cpu/simd/attention_body.h"
#include "engine/cpu/simd/matmul_body.h"
#include "engine/cpu/simd/row_body.h"
#include "engine/cpu/simd/sampling_body.h"

namespace megakernel::cpu {
namespace {

template <class V>
constexpr KernelTable MakeTable(const char* name) {
  return {
      .name = name,
      .rms_norm = RowBody<V>::RmsNorm,
      .quantize = RowBody<V>::Quantize,
      .matmul = MatmulBody<V>::Run,
      .silu_multiply = RowBody<V>::SiluMultiply,
      .rotate = RowBody<V>::Rotate,
      .append = AttentionBody<V>::Append,
      .attend = AttentionBody<V>::Attend,
      .fold = AttentionBody<V>::Fold,
      .finish = AttentionBody<V>::Finish,
      .arg_max = SamplingBody<V>::ArgMax,
      .exp_weights = SamplingBody<V>::ExpWeights,
  };
}

}  // namespace
}  // namespace megakernel::cpu
