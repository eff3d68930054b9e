// Sampling: block r chooses the token of row r, by the contract of kernels/layout/sampling.h.
//
// Greedy rows need the blocks' candidates only. Other rows read the row's logits (written by all blocks) several
// times: thresholds of top-k, top-p and min-p are found on integer keys and integer weights, so the result does not
// depend on the order of threads.
#pragma once

#include "kernels/device/head.cuh"
#include "kernels/layout/sampling.h"

namespace megakernel::device {

inline constexpr std::int32_t kSampleThreads = 32 * layout::kConsumerWarps;

// Order-preserving image of a float; the two zeros are equal.
__device__ __forceinline__ std::uint32_t OrderedKey(float x) {
  const std::uint32_t bits = __float_as_uint(x + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// What drawing needs of the block. By value: drawing is a call, and nothing else of the block may leave its registers.
struct DrawScope {
  BlockState* state;
  std::uint64_t* scratch;  // [kSampleThreads], shared memory
  const float* logits;     // of the row
  std::int32_t vocab;

  __device__ __forceinline__ void Sync() const { NamedBarrier(1, kSampleThreads); }
  __device__ __forceinline__ float Logit(std::int32_t i) const { return __ldcg(logits + i); }
};

__device__ __forceinline__ std::uint64_t AddOverBlock(const DrawScope& d, std::uint64_t value) {
#pragma unroll
  for (int s = 16; s > 0; s >>= 1) value += __shfl_xor_sync(0xffffffffu, value, s);
  d.Sync();
  if ((threadIdx.x & 31) == 0) d.state->reduce[threadIdx.x >> 5] = value;
  d.Sync();
  std::uint64_t total = 0;
  for (std::int32_t w = 0; w < layout::kConsumerWarps; ++w) total += d.state->reduce[w];
  return total;
}

// The candidates of all blocks for `row`: the largest logit. Every warp for itself.
__device__ __forceinline__ Candidate GatherCandidates(const Block& b, std::int32_t row, std::uint32_t step) {
  const Program& p = kernel_args.program;
  Candidate best;
  for (std::int32_t i = b.Lane(); i < p.num_blocks; i += 32) {
    const std::uint64_t* source =
        Workspace<const std::uint64_t>(p.workspace.candidates) + (std::int64_t{i} * p.max_rows + row) * 2;
    ulonglong2 word = LoadPairRelaxed(source);
    std::uint32_t spins = 0;
    while (static_cast<std::uint32_t>(word.x >> 32) != step || static_cast<std::uint32_t>(word.y >> 32) != step) {
      word = LoadPairRelaxed(source);
      if (++spins > kSpinLimit) Fault(FaultCode::kPacketTimeout, step);
    }
    best.Take(__uint_as_float(static_cast<std::uint32_t>(word.x)), static_cast<std::int32_t>(word.y));
  }
#pragma unroll
  for (int s = 16; s > 0; s >>= 1) {
    best.Take(__shfl_xor_sync(0xffffffffu, best.value, s), __shfl_xor_sync(0xffffffffu, best.id, s));
  }
  return best;
}

// What a row keeps: tokens before (key, id) in descending order of logits, ties to the lower id.
struct Cut {
  std::uint32_t key = 0;              // keep larger keys,
  std::int32_t last_id = 0x7fffffff;  // and of equal keys the ids up to this one
  __device__ __forceinline__ bool Keeps(std::uint32_t k, std::int32_t id) const {
    return k > key || (k == key && id <= last_id);
  }
};

// The smallest prefix, in descending order, of the tokens that `cut` keeps whose measure reaches `target`. measure(key,
// logit) is 1 for top-k and the weight for top-p: found byte by byte of the key, then among equal ones by id.
template <typename Measure>
__device__ __forceinline__ Cut FindCut(const DrawScope& d, const Cut& cut, std::uint64_t target, Measure measure) {
  const std::int32_t vocab = d.vocab;
  std::uint64_t* scratch = d.scratch;
  std::uint32_t prefix = 0, mask = 0;
  std::uint64_t above = 0;  // measure of keys above the prefix
#pragma unroll 1
  for (std::int32_t shift = 24; shift >= 0; shift -= 8) {
    d.Sync();
    for (std::int32_t i = threadIdx.x; i < 256; i += kSampleThreads) scratch[i] = 0;
    d.Sync();
    for (std::int32_t i = threadIdx.x; i < vocab; i += kSampleThreads) {
      const float x = d.Logit(i);
      const std::uint32_t key = OrderedKey(x);
      if ((key & mask) == prefix && cut.Keeps(key, i)) {
        const std::uint64_t m = measure(x);
        if (m != 0) {
          atomicAdd(reinterpret_cast<unsigned long long*>(scratch + ((key >> shift) & 255)),
                    static_cast<unsigned long long>(m));
        }
      }
    }
    d.Sync();
    std::int32_t digit = 255;
    std::uint64_t sum = above;
    for (; digit > 0; --digit) {
      if (sum + scratch[digit] >= target) break;
      sum += scratch[digit];
    }
    above = sum;
    prefix |= static_cast<std::uint32_t>(digit) << shift;
    mask |= 0xffu << shift;
  }
  // Tokens with exactly this key, in order of id: the first n whose measure reaches the target. All have the same.
  const float x = __uint_as_float(prefix & 0x80000000u ? prefix & 0x7fffffffu : ~prefix);
  const std::uint64_t each = measure(x);
  const std::uint64_t wanted = each == 0 ? ~std::uint64_t{0} : (target - above + each - 1) / each;
  Cut result;
  result.key = prefix;
  std::int32_t low = 0, high = vocab - 1;  // smallest id with `wanted` equal tokens up to it
#pragma unroll 1
  while (low < high) {
    const std::int32_t middle = (low + high) >> 1;
    std::uint64_t count = 0;
    for (std::int32_t i = threadIdx.x; i <= middle; i += kSampleThreads) {
      const std::uint32_t key = OrderedKey(d.Logit(i));
      if (key == prefix && cut.Keeps(key, i)) ++count;
    }
    if (AddOverBlock(d, count) >= wanted) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  result.last_id = low;
  return result;
}

// Draws the token of a row that is not greedy. `maximum`: its largest logit. All consumer threads of the block.
__device__ __noinline__ std::int32_t DrawToken(DrawScope d, layout::LaneSampling sampling, std::int32_t position,
                                               float maximum) {
  const std::int32_t vocab = d.vocab;
  std::uint64_t* scratch = d.scratch;
  const float temperature = sampling.temperature;
  auto weight = [&](float x) { return layout::ExpWeight(__fdiv_rn(x - maximum, temperature)); };
  Cut cut;
  if (sampling.top_k > 0 && sampling.top_k < vocab) {
    cut = FindCut(d, cut, sampling.top_k, [](float) { return std::uint64_t{1}; });
  }
  auto total_of = [&](std::uint64_t least) {
    std::uint64_t sum = 0;
    for (std::int32_t i = threadIdx.x; i < vocab; i += kSampleThreads) {
      const float x = d.Logit(i);
      if (cut.Keeps(OrderedKey(x), i)) {
        const std::uint64_t w = weight(x);
        if (w >= least) sum += w;
      }
    }
    return AddOverBlock(d, sum);
  };
  std::uint64_t total = total_of(0);
  if (sampling.top_p < 1.0f) {
    const std::uint64_t asked = layout::FractionOf(sampling.top_p, total);
    const std::uint64_t target = asked > 0 ? asked : 1;  // one token at least
    cut = FindCut(d, cut, target, weight);
  }
  const std::uint64_t least = layout::FractionOf(sampling.min_p, std::uint64_t{1} << layout::kWeightBits);
  total = total_of(least);
  std::uint64_t r = layout::Draw(sampling.seed, static_cast<std::uint32_t>(position), total);

  // Walk the kept tokens in id order: first by runs of threads, then inside the run.
  const std::int32_t run = (vocab + kSampleThreads - 1) / kSampleThreads;
  const std::int32_t begin = threadIdx.x * run, end = begin + run < vocab ? begin + run : vocab;
  std::uint64_t mine = 0;
  for (std::int32_t i = begin; i < end; ++i) {
    const float x = d.Logit(i);
    if (cut.Keeps(OrderedKey(x), i)) {
      const std::uint64_t w = weight(x);
      if (w >= least) mine += w;
    }
  }
  d.Sync();
  scratch[threadIdx.x] = mine;
  d.Sync();
  if (threadIdx.x == 0) {
    std::int32_t owner = 0;
    while (owner < kSampleThreads - 1 && r >= scratch[owner]) r -= scratch[owner++];
    std::int32_t token = 0;
    for (std::int32_t i = owner * run; i < vocab; ++i) {
      const float x = d.Logit(i);
      if (!cut.Keeps(OrderedKey(x), i)) continue;
      const std::uint64_t w = weight(x);
      if (w < least) continue;
      token = i;
      if (r < w) break;
      r -= w;
    }
    d.state->reduce[0] = static_cast<std::uint64_t>(token);
  }
  d.Sync();
  return static_cast<std::int32_t>(d.state->reduce[0]);
}

// Chooses and publishes the token of row blockIdx.x of the step.
__device__ __noinline__ void SampleRow(Block b, std::uint32_t step, const layout::LaneSampling* samplings) {
  const Program& p = kernel_args.program;
  const std::int32_t row = blockIdx.x;
  if (row >= b.rows) return;
  const RowState& state = State().rows[row];
  const bool draws = (state.flags & layout::kRowSamples) && !(state.flags & layout::kRowGreedy);
  if (b.Warp() != 0 && !draws) return;
  const Candidate best = GatherCandidates(b, row, step);
  std::int32_t token = state.flags & layout::kRowSamples ? best.id : -1;
  if (draws) {
    FenceGpu();  // the logits that other blocks wrote
    const float* logits =
        Workspace<const float>(p.workspace.logits) + std::int64_t{row} * p.matrix[layout::kPhaseHead].group_rows;
    const DrawScope scope{&State(), SharedRegion<std::uint64_t>(p.shared.partial), logits, p.vocab};
    token = DrawToken(scope, samplings[state.lane], state.position + 1, best.value);
  }
  if (threadIdx.x == 0) {
    FenceGpu();
    StoreRelaxed(Workspace<std::uint64_t>(p.workspace.tokens) + (step & 1) * p.max_rows + row,
                 MakePacket(static_cast<std::uint32_t>(token), step));
  }
}

}  // namespace megakernel::device
