#include "kernels/reference/linear.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <thread>
#include <vector>

namespace megakernel::reference {
namespace {

constexpr int kChains = 16;

float HalfToFloat(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // The bits of the half, read as a float's exponent and mantissa, are the value times 2^-112; the product is exact.
  const float value = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
}

template <class Real>
Real Fold(Real* chains) {
  for (int width = kChains / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) chains[i] += chains[i + width];
  }
  return chains[0];
}

// Dot products of `count` (up to 4) rows of x with w: the row of weights is read once.
template <class Real, int kCount>
void DotRows(const Real* w, const Real* x, std::int64_t n, std::int64_t stride, Real* out) {
  Real chains[kCount][kChains] = {};
  std::int64_t k = 0;
  for (; k + kChains <= n; k += kChains) {
    for (int r = 0; r < kCount; ++r) {
      for (int c = 0; c < kChains; ++c) chains[r][c] += w[k + c] * x[r * stride + k + c];
    }
  }
  for (int c = 0; k + c < n; ++c) {
    for (int r = 0; r < kCount; ++r) chains[r][c] += w[k + c] * x[r * stride + k + c];
  }
  for (int r = 0; r < kCount; ++r) out[r] = Fold(chains[r]);
}

}  // namespace

void ParallelFor(std::int64_t count, std::int64_t grain, int threads,
                 const std::function<void(std::int64_t, std::int64_t)>& work) {
  const std::int64_t pieces = (count + grain - 1) / grain;
  const auto workers = static_cast<int>(std::min<std::int64_t>(pieces, threads));
  if (workers <= 1) {
    if (count > 0) work(0, count);
    return;
  }
  std::atomic<std::int64_t> next = 0;
  const auto run = [&] {
    for (std::int64_t p = next++; p < pieces; p = next++) work(p * grain, std::min(count, (p + 1) * grain));
  };
  std::vector<std::thread> pool;
  for (int t = 1; t < workers; ++t) pool.emplace_back(run);
  run();
  for (std::thread& thread : pool) thread.join();
}

template <class Real>
void ConvertRow(const Tensor& tensor, std::int64_t row, Real* out) {
  const std::int64_t first = row * tensor.cols;
  if (tensor.type == ElementType::kF32) {
    const float* from = static_cast<const float*>(tensor.data) + first;
    for (std::int64_t i = 0; i < tensor.cols; ++i) out[i] = from[i];
    return;
  }
  const std::uint16_t* from = static_cast<const std::uint16_t*>(tensor.data) + first;
  if (tensor.type == ElementType::kBF16) {
    for (std::int64_t i = 0; i < tensor.cols; ++i) {
      out[i] = std::bit_cast<float>(static_cast<std::uint32_t>(from[i]) << 16);
    }
  } else {
    for (std::int64_t i = 0; i < tensor.cols; ++i) out[i] = HalfToFloat(from[i]);
  }
}

template <class Real>
Real Dot(const Real* a, const Real* b, std::int64_t n) {
  Real result;
  DotRows<Real, 1>(a, b, n, 0, &result);
  return result;
}

template <class Real>
void Multiply(const Tensor& w, const Tensor& bias, const Real* x, std::int64_t num_rows, int threads, Real* y) {
  std::vector<Real> biases(bias ? static_cast<std::size_t>(w.rows) : 0);
  if (bias) ConvertRow(bias, 0, biases.data());
  ParallelFor(w.rows, 32, threads, [&](std::int64_t begin, std::int64_t end) {
    std::vector<Real> weights(static_cast<std::size_t>(w.cols));
    for (std::int64_t o = begin; o < end; ++o) {
      ConvertRow(w, o, weights.data());
      for (std::int64_t r = 0; r < num_rows; r += 4) {
        Real sums[4];
        const Real* rows = x + r * w.cols;
        const std::int64_t count = std::min<std::int64_t>(4, num_rows - r);
        if (count == 4) {
          DotRows<Real, 4>(weights.data(), rows, w.cols, w.cols, sums);
        } else {
          for (std::int64_t i = 0; i < count; ++i) sums[i] = Dot(weights.data(), rows + i * w.cols, w.cols);
        }
        for (std::int64_t i = 0; i < count; ++i) {
          y[(r + i) * w.rows + o] = bias ? sums[i] + biases[static_cast<std::size_t>(o)] : sums[i];
        }
      }
    }
  });
}

template void ConvertRow(const Tensor&, std::int64_t, float*);
template void ConvertRow(const Tensor&, std::int64_t, double*);
template float Dot(const float*, const float*, std::int64_t);
template double Dot(const double*, const double*, std::int64_t);
template void Multiply(const Tensor&, const Tensor&, const float*, std::int64_t, int, float*);
template void Multiply(const Tensor&, const Tensor&, const double*, std::int64_t, int, double*);

}  // namespace megakernel::reference
