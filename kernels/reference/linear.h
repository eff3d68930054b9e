// The parts of the reference that take time: element conversion, products with stored matrices, threads.
#pragma once

#include <cstdint>
#include <functional>

#include "kernels/reference/model_view.h"

namespace megakernel::reference {

// Calls work(begin, end) on disjoint ranges that cover [0, count), from up to `threads` threads; returns when all are
// done. Ranges are at least `grain` long, save the last.
void ParallelFor(std::int64_t count, std::int64_t grain, int threads,
                 const std::function<void(std::int64_t, std::int64_t)>& work);

// Row `row` of a tensor, converted exactly: cols elements.
template <class Real>
void ConvertRow(const Tensor& tensor, std::int64_t row, Real* out);

// y[r][o] = sum over k of x[r][k] * w[o][k], plus bias[o] where there is one. x: [num_rows, w.cols], y: [num_rows,
// w.rows]. The sum runs in 16 interleaved chains, ascending, folded pairwise: a result does not depend on num_rows or
// threads.
template <class Real>
void Multiply(const Tensor& w, const Tensor& bias, const Real* x, std::int64_t num_rows, int threads, Real* y);

// Sum over k of a[k] * b[k], in the order that Multiply uses.
template <class Real>
Real Dot(const Real* a, const Real* b, std::int64_t n);

}  // namespace megakernel::reference
