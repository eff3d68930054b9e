// Attention over a sixteen-lane vector. Included by one translation unit per instruction set.
//
// One block of 64 positions. Where several tiles of queries read it, or a page does not hold it whole, keys and values
// go to fp32 in scratch first (any page size gives the same block); else they are read where they lie. Then
//   scores  lanes are positions, one chain of fused multiply-adds over ascending head_dim
//   weights exp(score - block maximum); positions beyond a query's length count for nothing, whatever memory holds
//   values  lanes are elements, one chain over ascending positions
// then the fold of the block's state into the query's.
#pragma once

#include "engine/cpu/half.h"
#include "engine/cpu/kernel_table.h"
#include "engine/cpu/simd/row_body.h"

namespace megakernel::cpu {
namespace {

template <class V>
struct AttentionBody {
  using F = typename V::F;
  static constexpr int kBlock = kAttentionBlock;
  static constexpr int kTile = 3;  // queries at a time: 3 x 32 sums fill 12 registers of 8 lanes
  static constexpr float kLowest = -3.0e38f;

  static void Append(const KvPlanes& kv, std::int32_t position, const float* key, const float* value) {
    std::byte* page = kv.pool + kv.pages[position / kv.page_tokens] * kv.page_bytes;
    const std::int32_t slot = position % kv.page_tokens;
    const std::int32_t dim = kv.head_dim;
    if (!kv.half) {
      auto* keys = reinterpret_cast<float*>(page + kv.key_offset);
      for (std::int32_t d = 0; d < dim; ++d) keys[std::int64_t{d} * kv.page_tokens + slot] = key[d];
      auto* values = reinterpret_cast<float*>(page + kv.value_offset) + std::int64_t{slot} * dim;
      for (std::int32_t d = 0; d < dim; d += 16) V::Store(values + d, V::Load(value + d));
      return;
    }
    auto* keys = reinterpret_cast<std::uint16_t*>(page + kv.key_offset);
    auto* values = reinterpret_cast<std::uint16_t*>(page + kv.value_offset) + std::int64_t{slot} * dim;
    alignas(64) std::uint16_t halves[16];
    for (std::int32_t d = 0; d < dim; d += 16) {
      V::StoreHalf(halves, Saturate(V::Load(key + d)));
      for (int i = 0; i < 16; ++i) keys[std::int64_t{d + i} * kv.page_tokens + slot] = halves[i];
      V::StoreHalf(values + d, Saturate(V::Load(value + d)));
    }
  }

  // min(max(x, ..), ..) keeps its second operand when the first is NaN, so x comes second.
  static F Saturate(F x) { return V::Min(V::Set1(kHalfMax), V::Max(V::Set1(-kHalfMax), x)); }

  // n elements to fp32; reads up to the next multiple of 16 where `whole` says that memory goes on.
  template <class T>
  static void Convert(const T* from, std::int32_t n, bool whole, float* to) {
    std::int32_t i = 0;
    for (; whole ? i < n : i + 16 <= n; i += 16) V::Store(to + i, Widen(from + i));
    for (; i < n; ++i) to[i] = WidenOne(from + i);
  }
  static F Widen(const std::uint16_t* p) { return V::LoadHalf(p); }
  static F Widen(const float* p) { return V::Load(p); }
  static float WidenOne(const std::uint16_t* p) { return Half(*p); }
  static float WidenOne(const float* p) { return *p; }
  static float Half(std::uint16_t h) {
    std::uint16_t halves[16] = {h};
    float floats[16];
    V::Store(floats, V::LoadHalf(halves));
    return floats[0];
  }

  // The keys and values of a block: fp32 in scratch or either type in a page.
  template <class T>
  struct BlockView {
    const T* keys;    // [head_dim][key_stride], of which 64 are the block's
    const T* values;  // [64][head_dim]
    std::int32_t key_stride;
    const std::byte* next;  // keys of the block after this one
  };

  static const std::byte* PageOf(const KvPlanes& kv, std::int32_t position) {
    return kv.pool + kv.pages[position / kv.page_tokens] * kv.page_bytes;
  }

  // REQUIRES: page_tokens % 64 == 0.
  template <class T>
  static BlockView<T> InPage(const AttendCall& call, std::int32_t block) {
    const KvPlanes& kv = call.kv;
    const std::int32_t slot = block * kBlock % kv.page_tokens;
    const auto keys_at = [&](std::int32_t b) {
      return PageOf(kv, b * kBlock) + kv.key_offset +
             b * kBlock % kv.page_tokens * static_cast<std::int32_t>(sizeof(T));
    };
    const std::byte* values = PageOf(kv, block * kBlock) + kv.value_offset;
    const std::int32_t after = block + 1 < call.last_block ? block + 1 : block;
    return {reinterpret_cast<const T*>(keys_at(block)),
            reinterpret_cast<const T*>(values) + std::int64_t{slot} * kv.head_dim, kv.page_tokens, keys_at(after)};
  }

  template <class T>
  static BlockView<float> LoadBlock(const AttendCall& call, std::int32_t block, std::int32_t count) {
    const KvPlanes& kv = call.kv;
    const std::int32_t tokens = kv.page_tokens;
    const std::int32_t dim = kv.head_dim;
    for (std::int32_t done = 0; done < count;) {
      const std::int32_t position = block * kBlock + done;
      const std::int32_t slot = position % tokens;
      const std::int32_t run = count - done < tokens - slot ? count - done : tokens - slot;
      const std::byte* page = PageOf(kv, position);
      const T* keys = reinterpret_cast<const T*>(page + kv.key_offset) + slot;
      const T* values = reinterpret_cast<const T*>(page + kv.value_offset) + std::int64_t{slot} * dim;
      const bool whole = tokens % kBlock == 0;
      for (std::int32_t d = 0; d < dim; ++d) {
        Convert(keys + std::int64_t{d} * tokens, run, whole, call.scratch.keys + d * kBlock + done);
      }
      Convert(values, run * dim, true, call.scratch.values + done * dim);
      done += run;
    }
    const auto* scratch = reinterpret_cast<const std::byte*>(call.scratch.keys);
    return {call.scratch.keys, call.scratch.values, kBlock, scratch};
  }

  template <int kQueries, class T>
  static void Scores(const AttendCall& call, const BlockView<T>& view, std::int32_t first) {
    const std::int32_t dim = call.kv.head_dim;
    const float* q = call.queries + std::int64_t{first} * dim;
    for (int half = 0; half < kBlock; half += 32) {
      F acc[kQueries][2];
      for (int i = 0; i < kQueries; ++i) acc[i][0] = acc[i][1] = V::Set1(0.0f);
      const T* keys = view.keys + half;
      const std::byte* next = view.next + half * static_cast<std::int32_t>(sizeof(T));
      for (std::int32_t d = 0; d < dim; ++d, keys += view.key_stride) {
        __builtin_prefetch(next + std::int64_t{d} * view.key_stride * static_cast<std::int32_t>(sizeof(T)));
        const F k0 = Widen(keys);
        const F k1 = Widen(keys + 16);
#pragma GCC unroll 3
        for (int i = 0; i < kQueries; ++i) {
          const F x = V::Set1(q[i * dim + d]);
          acc[i][0] = V::Fma(x, k0, acc[i][0]);
          acc[i][1] = V::Fma(x, k1, acc[i][1]);
        }
      }
      for (int i = 0; i < kQueries; ++i) {
        float* scores = call.scratch.scores + (first + i) * kBlock + half;
        V::Store(scores, acc[i][0]);
        V::Store(scores + 16, acc[i][1]);
      }
    }
  }

  // Scores to weights, in place; m and l to the state's end.
  static void Weights(float* scores, std::int32_t count, float* m_and_l) {
    F s[4];
    for (int i = 0; i < 4; ++i) s[i] = V::FirstLanes(V::Load(scores + 16 * i), count - 16 * i, kLowest);
    const float largest = V::ReduceMax(V::Max(V::Max(s[0], s[1]), V::Max(s[2], s[3])));
    const F shift = V::Set1(largest);
    for (int i = 0; i < 4; ++i) {
      // A NaN score must stay NaN: clamping inside Exp would hide it.
      const F x = V::Sub(s[i], shift);
      const F weight = V::Add(Exp<V>(x), V::Mul(x, V::Set1(0.0f)));
      s[i] = V::FirstLanes(weight, count - 16 * i, 0.0f);
      V::Store(scores + 16 * i, s[i]);
    }
    m_and_l[0] = largest;
    m_and_l[1] = V::ReduceAdd(V::Add(V::Add(s[0], s[1]), V::Add(s[2], s[3])));
  }

  template <int kQueries, class T>
  static void Values(const AttendCall& call, const BlockView<T>& view, std::int32_t first, std::int32_t count,
                     float* const* out) {
    const std::int32_t dim = call.kv.head_dim;
    const float* weights = call.scratch.scores + first * kBlock;
    for (std::int32_t d = 0; d < dim; d += 32) {
      F acc[kQueries][2];
      for (int i = 0; i < kQueries; ++i) acc[i][0] = acc[i][1] = V::Set1(0.0f);
      const T* values = view.values + d;
      for (std::int32_t t = 0; t < count; ++t, values += dim) {
        const F v0 = Widen(values);
        const F v1 = Widen(values + 16);
#pragma GCC unroll 3
        for (int i = 0; i < kQueries; ++i) {
          const F w = V::Set1(weights[i * kBlock + t]);
          acc[i][0] = V::Fma(w, v0, acc[i][0]);
          acc[i][1] = V::Fma(w, v1, acc[i][1]);
        }
      }
      for (int i = 0; i < kQueries; ++i) {
        V::Store(out[i] + d, acc[i][0]);
        V::Store(out[i] + d + 16, acc[i][1]);
      }
    }
  }

  template <int kQueries, class T>
  static void Tile(const AttendCall& call, const BlockView<T>& view, std::int32_t first, std::int32_t block) {
    const std::int32_t dim = call.kv.head_dim;
    const std::int32_t stride = StateFloats(dim);
    Scores<kQueries>(call, view, first);
    alignas(64) float states[kQueries * (kMaxHeadDim + 16)];
    float* out[kQueries];
    std::int32_t longest = 0;
    for (int i = 0; i < kQueries; ++i) {
      const std::int32_t query = first + i;
      out[i] = call.partials == nullptr ? states + i * stride
                                        : call.partials + query * call.partial_stride + std::int64_t{block} * stride;
      const std::int32_t count = Count(call.lengths[query], block);
      if (count > longest) longest = count;
      Weights(call.scratch.scores + query * kBlock, count, out[i] + dim);
    }
    Values<kQueries>(call, view, first, longest, out);
    if (call.partials != nullptr) return;
    for (int i = 0; i < kQueries; ++i) {
      Fold(call.scratch.states + std::int64_t{first + i} * stride, out[i], dim, block == 0);
    }
  }

  static std::int32_t Count(std::int32_t length, std::int32_t block) {
    const std::int32_t count = length - block * kBlock;
    return count < kBlock ? count : kBlock;
  }

  template <class T>
  static void Tiles(const AttendCall& call, const BlockView<T>& view, std::int32_t first, std::int32_t block) {
    for (; first + kTile <= call.num_queries; first += kTile) Tile<kTile>(call, view, first, block);
    if (call.num_queries - first == 2) Tile<2>(call, view, first, block);
    if (call.num_queries - first == 1) Tile<1>(call, view, first, block);
  }

  template <class T>
  static void AttendTo(const AttendCall& call) {
    const std::int32_t last = call.num_queries - 1;
    for (std::int32_t block = call.first_block; block < call.last_block; ++block) {
      std::int32_t first = 0;  // queries ascend: those that end before the block come first
      while (Count(call.lengths[first], block) <= 0) ++first;
      if (call.kv.page_tokens % kBlock == 0 && call.num_queries - first <= kTile) {
        Tiles(call, InPage<T>(call, block), first, block);
      } else {
        Tiles(call, LoadBlock<T>(call, block, Count(call.lengths[last], block)), first, block);
      }
    }
  }

  static void Attend(const AttendCall& call) {
    call.kv.half ? AttendTo<std::uint16_t>(call) : AttendTo<float>(call);
  }

  static void Fold(float* total, const float* block, std::int32_t dim, bool first) {
    if (first) {
      for (std::int32_t d = 0; d < dim + 2; ++d) total[d] = block[d];
      return;
    }
    const float a = total[dim];
    const float b = block[dim];
    const float m = a > b ? a : b;
    alignas(64) float shifts[16] = {a - m, b - m};
    V::Store(shifts, Exp<V>(V::Load(shifts)));
    const F scale_total = V::Set1(shifts[0]);
    const F scale_block = V::Set1(shifts[1]);
    for (std::int32_t d = 0; d < dim; d += 16) {
      V::Store(total + d, V::Fma(V::Load(block + d), scale_block, V::Mul(V::Load(total + d), scale_total)));
    }
    total[dim] = m;
    total[dim + 1] = total[dim + 1] * shifts[0] + block[dim + 1] * shifts[1];
  }

  static void Finish(const float* state, std::int32_t dim, float* out) {
    const F inverse = V::Set1(1.0f / state[dim + 1]);
    for (std::int32_t d = 0; d < dim; d += 16) V::Store(out + d, V::Mul(V::Load(state + d), inverse));
  }
};

}  // namespace
}  // namespace megakernel::cpu
