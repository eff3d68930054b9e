// How far the CPU executor's logits may be from exact ones: the derivation, in one place.
//
// Unit roundoffs. u = 2^-24 is half an ulp of a float in [1, 2), v = 2^-11 the same of an fp16, and an activation
// held as a 16-bit integer is off by at most s / 2, where s = largest / 32767 of its block of 32. gamma(n) = n u / (1 -
// n u) bounds the relative error of n roundings in a row (Higham, Accuracy and Stability of Numerical Algorithms, 3.1).
//
// Single kernels are held to worst-case bounds made of these (kernels_test.cc): for a sum of n products
// gamma(n) sum |w x|, plus sum |w| s / 2 with integers; attention, norm and exponential are worked out there.
//
// A worst-case bound of a whole model says nothing: each layer multiplies the last one's bound by the largest gain of
// its matrices, 2^30 and more after 30 layers. What holds is the statistical estimate: rounding errors behave as
// independent, of mean zero (Higham and Mary, SIAM J. Sci. Comput. 41, 2019), so to first order the error of a logit is
// a sum over all places of (derivative of the logit by the value there) x (error there). The sizes of the errors follow
// from the arithmetic, the derivatives (the condition) are the model's own. So the estimate is taken from the model:
// the reference in double runs once more with errors of these sizes, drawn at random, at every place
// (kernels/reference/forward.h, Perturbation):
//   matrix inputs, integers    uniform in +- s / 2, by block of 32
//   keys and values in fp16    uniform in +- ulp / 2 of the element
//   one float rounding         0.42 u |x|: uniform in +- ulp / 2, mantissas distributed as 1 / m, gives
//                              2 u sqrt(0.541 / 12) |x|
//   a chain of n additions     0.30 u sqrt(n) |y|: partial sums grow as sqrt(i), so the variance is the sum of
//                              (0.42 u)^2 y^2 i / n = (0.42 u)^2 y^2 n / 2, with the mean of y^2 over like sums for
//                              y^2 (y itself stands for it: trained models have a few elements 1,000 times the others)
//   scores                     a chain over head_dim: as relative errors of 0.30 u sqrt(head_dim) of the keys
//
// Two draws of the same distribution, the executor's and the reference's, over tens of thousands of logits: their root
// mean squares agree but for what positions have in common. A test asks for a ratio between 1 / kSpread and kSpread;
// both sides count, an error that is too small means arithmetic other than it is said to be.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "kernels/reference/forward.h"

namespace megakernel::test {

inline constexpr double kFloatUnit = 0x1p-24;  // u
inline constexpr double kHalfUnit = 0x1p-11;   // v
inline constexpr double kSpread = 1.5;
// The largest of 50,000 normal numbers is beyond 5.2 sigma once in 100 times.
inline constexpr double kLargestOfARow = 5.2;

// Relative error of exp in units of u: the Taylor polynomial leaves out r^7 / 5040, |r| <= ln 2 / 2, of 2^-1/2 or more
// (2.8); the reduced argument (0.4); the chain of fused additions, the i-th weighted by r^i (1.6).
inline constexpr double kExpRoundings = 5;

// Largest relative error of n roundings in a row.
constexpr double Gamma(double n) {
  return n * kFloatUnit / (1 - n * kFloatUnit);
}

// The deviation of a logit's error (the condition of a position) is taken as log-normal over positions: so many
// deviations above the mean are passed by one of 30,000 positions; goldens have some thousand.
inline constexpr double kWorstPosition = 4.0;

// What an executor does to numbers.
struct Arithmetic {
  bool integer_inputs = false;  // 16-bit integers into the layers' matrices
  bool integer_head = false;    // and into the last one
  bool half_kv = false;
};

// Draws the errors. One object serves one sequence from its first position on.
class RoundingErrors {
 public:
  RoundingErrors(const reference::Shape& shape, const Arithmetic& arithmetic, std::uint32_t seed);

  // For Forward<double>::set_perturbation; the object must outlive the forward pass.
  void operator()(reference::Stage stage, std::span<double> values, std::int64_t width);
  // Errors of the last product: of logits.
  void AddToLogits(std::span<double> logits);

 private:
  void Elementwise(std::span<double> values, double relative);
  // Each is the sum of a chain of `terms` additions.
  void Chain(std::span<double> sums, double terms);
  // What was added to the residual since it was last seen, as the sums of a chain.
  void Update(std::span<double> residual, double terms);
  void QuantizeBlocks(std::span<double> values, std::int64_t width);
  void RoundToHalf(std::span<double> values);
  // Additions of a product over `columns` columns.
  double Terms(std::int64_t columns, bool integers) const;

  const reference::Shape shape_;
  const Arithmetic arithmetic_;
  std::mt19937_64 random_;
  std::normal_distribution<double> normal_;
  std::uniform_real_distribution<double> uniform_{-1.0, 1.0};
  std::vector<double> residual_;
};

// Logits of `positions`, in double, of a run with errors (of `arithmetic`, drawn from `seed`) or without (null).
std::vector<std::vector<double>> ReferenceLogits(const reference::ModelView& model,
                                                 std::span<const std::int32_t> tokens,
                                                 std::span<const std::int32_t> positions, const Arithmetic* arithmetic,
                                                 std::uint32_t seed, int threads);

// Root mean square of the difference, of each row.
std::vector<double> RowErrors(const std::vector<std::vector<double>>& a, const std::vector<std::vector<double>>& b);
double RootMeanSquare(std::span<const double> values);
// From the deviations of some positions, the largest to be expected of many: kWorstPosition.
double DeviationOfWorstPosition(std::span<const double> deviations);

}  // namespace megakernel::test
