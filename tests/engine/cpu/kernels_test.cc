// Every kernel of every instruction set against double arithmetic, within bounds that follow from its operations.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "engine/cpu/isa.h"
#include "engine/cpu/kernel_table.h"
#include "kernels/layout/sampling.h"
#include "tests/engine/cpu/error_model.h"
#include "tests/engine/cpu/synthetic_model.h"

namespace megakernel::cpu {
namespace {

constexpr double kEps = test::kFloatUnit;

// Memory that the kernels may load whole vectors from.
template <class T>
struct Aligned {
  explicit Aligned(std::int64_t count, T value = T()) : storage(static_cast<std::size_t>(count) + 64, value) {
    const auto address = reinterpret_cast<std::uintptr_t>(storage.data());
    data = storage.data() + (RoundUp(static_cast<std::int64_t>(address), 64) - static_cast<std::int64_t>(address)) /
                                static_cast<std::int64_t>(sizeof(T));
  }
  std::vector<T> storage;
  T* data;
};

struct Inputs {
  Inputs(std::int32_t rows, std::int32_t cols_in)
      : cols(static_cast<std::int32_t>(RoundUp(cols_in, 32))),
        floats(std::int64_t{rows} * cols),
        values(std::int64_t{rows} * cols),
        scales(rows * cols / 32),
        sums(rows * cols / 32) {}
  Activations view() { return {cols, floats.data, values.data, scales.data, sums.data}; }
  std::int32_t cols;
  Aligned<float> floats;
  Aligned<std::int16_t> values;
  Aligned<float> scales, sums;
};

class KernelTest : public testing::TestWithParam<CpuIsa> {
 protected:
  const KernelTable& kernels() const { return **KernelsFor(GetParam()); }
};

std::string IsaName(const testing::TestParamInfo<CpuIsa>& info) {
  return CpuIsaName(info.param);
}
INSTANTIATE_TEST_SUITE_P(Isa, KernelTest, testing::ValuesIn(WorkingIsas()), IsaName);

void FillRows(Inputs& inputs, std::int32_t rows, std::int32_t cols, std::mt19937& random) {
  std::normal_distribution<float> normal;
  for (std::int32_t r = 0; r < rows; ++r) {
    for (std::int32_t c = 0; c < cols; ++c) {
      // One outlier a row, as activations have them.
      inputs.floats.data[std::int64_t{r} * inputs.cols + c] = normal(random) * (c == 5 ? 50.0f : 1.0f);
    }
  }
}

struct Shape {
  TensorType type;
  std::int32_t rows, cols;
};

// y = sum of w x. With integers: the activation is off by scale / 2 at most, each block costs four roundings of its
// terms (float of sums, product of scales, two additions). With floats: one rounding a column.
void ExpectProducts(const KernelTable& kernels, const Shape& shape, std::int32_t num_rows, std::mt19937& random) {
  const test::OwnedTensor tensor = test::RandomTensor("w", shape.type, shape.rows, shape.cols, 0.05f, random);
  PackedMatrix matrix = ShapeOf(tensor.view, KindFor(tensor.view, false));
  Aligned<std::byte> packed(matrix.Bytes());
  PackStrips(tensor.view, matrix, 0, matrix.num_strips, packed.data);
  matrix.data = packed.data;
  Inputs inputs(num_rows, shape.cols);
  FillRows(inputs, num_rows, shape.cols, random);
  for (std::int32_t r = 0; r < num_rows; ++r) kernels.quantize(inputs.view().Row(r));

  auto scratch = std::make_unique<MatmulScratch>();
  Aligned<float> sums(std::int64_t{num_rows} * kTileRows);
  scratch->sums = sums.data;
  const std::int64_t stride = std::int64_t{matrix.num_strips} * kTileRows;
  Aligned<float> out(num_rows * stride, 1.0f);
  // In two calls, added to what is there: covers first_strip and add.
  const std::int32_t half = matrix.num_strips / 2;
  MatmulCall call = {&matrix, 0, half, inputs.view(), num_rows, out.data, stride, true, scratch.get()};
  if (half > 0) kernels.matmul(call);
  call.first_strip = half;
  call.num_strips = matrix.num_strips - half;
  call.out = out.data + half * kTileRows;
  kernels.matmul(call);

  std::vector<float> w(static_cast<std::size_t>(shape.cols));
  double used = 0;
  for (std::int32_t i = 0; i < shape.rows; ++i) {
    DequantizeRow(tensor.view, i, w.data());
    for (std::int32_t r = 0; r < num_rows; ++r) {
      double sum = 1, magnitude = 1, quantisation = 0;
      for (std::int32_t c = 0; c < shape.cols; ++c) {
        const double x = inputs.floats.data[std::int64_t{r} * inputs.cols + c];
        sum += w[c] * x;
        magnitude += std::abs(w[c] * x);
        quantisation += std::abs(w[c]) * inputs.scales.data[(std::int64_t{r} * inputs.cols + c) / 32] / 2;
      }
      double bound = test::Gamma(shape.cols + 2) * magnitude;
      if (HoldsIntegers(matrix.kind)) {
        // The 4-bit product and minimum are larger than their sum: |scale q| + |minimum| <= 4 |w|max of the block.
        double terms = 1;
        for (std::int32_t c = 0; c < shape.cols; ++c) {
          const std::int32_t first = c / 32 * 32;
          double largest = 0;
          for (std::int32_t k = first; k < first + 32; ++k) largest = std::max<double>(largest, std::abs(w[k]));
          terms += 4 * largest * std::abs(inputs.floats.data[std::int64_t{r} * inputs.cols + c]);
        }
        bound = quantisation * (1 + test::Gamma(4)) + test::Gamma(2.0 * matrix.num_blocks + 4) * terms;
      }
      const double error = std::abs(out.data[r * stride + i] - sum);
      used = std::max(used, error / bound);
      ASSERT_LE(error, bound) << "row " << r << " output " << i << " of " << TensorTypeName(shape.type);
    }
  }
  EXPECT_GT(used, 0.001) << "the bound would hide mistakes";
}

TEST_P(KernelTest, Products) {
  std::mt19937 random(3);
  const bool plain = GetParam() == CpuIsa::kPlain;
  for (const Shape& shape :
       {Shape{TensorType::kQ4_1, 80, 96}, Shape{TensorType::kQ4_0, 48, 608}, Shape{TensorType::kQ8_0, 33, 1184},
        Shape{TensorType::kQ5_0, 17, 224}, Shape{TensorType::kQ5_1, 48, 96}, Shape{TensorType::kIQ4_NL, 33, 608},
        Shape{TensorType::kQ4_K, 49, 768}, Shape{TensorType::kQ5_K, 32, 512}, Shape{TensorType::kQ6_K, 33, 768},
        Shape{TensorType::kF32, 70, 50}, Shape{TensorType::kF16, 96, 72}, Shape{TensorType::kBF16, 17, 100}}) {
    for (std::int32_t rows : {1, 2, 3, 4, 5, 8, 12, 13, 27, 40}) {
      if (plain && rows > 13) continue;
      SCOPED_TRACE(rows);
      ExpectProducts(kernels(), shape, rows, random);
    }
  }
}

TEST_P(KernelTest, QuantizeIsTight) {
  std::mt19937 random(4);
  Inputs inputs(1, 64);
  FillRows(inputs, 1, 32, random);
  kernels().quantize(inputs.view());
  float largest = 0;
  std::int32_t sum = 0;
  for (int i = 0; i < 32; ++i) {
    largest = std::max(largest, std::abs(inputs.floats.data[i]));
    sum += inputs.values.data[i];
  }
  for (int i = 0; i < 32; ++i) {
    EXPECT_NEAR(inputs.values.data[i] * inputs.scales.data[0], inputs.floats.data[i], largest / 65534 * 1.001);
  }
  EXPECT_EQ(inputs.sums.data[0], static_cast<float>(sum) * inputs.scales.data[0]);
  EXPECT_EQ(inputs.scales.data[1], 0.0f);  // a block of zeros
  EXPECT_EQ(inputs.sums.data[1], 0.0f);
}

TEST_P(KernelTest, QuantizeKeepsNanVisible) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (int at : {0, 7, 15, 16, 31}) {
      Inputs inputs(1, 32);
      for (int i = 0; i < 32; ++i) inputs.floats.data[i] = 1.0f;
      inputs.floats.data[at] = bad;
      kernels().quantize(inputs.view());
      EXPECT_TRUE(std::isnan(inputs.scales.data[0]));
      EXPECT_TRUE(std::isnan(inputs.sums.data[0]));
    }
  }
}

TEST_P(KernelTest, RmsNorm) {
  std::mt19937 random(5);
  Inputs x(1, 72), weight(1, 72);
  FillRows(x, 1, 72, random);
  FillRows(weight, 1, 72, random);
  Aligned<float> out(96);
  kernels().rms_norm(x.floats.data, weight.floats.data, 72, 96, 1e-5f, out.data);
  // Six squares a lane and four levels of lanes, the mean and eps: halved by the root; root, inverse, two products.
  const double bound = test::Gamma(12 / 2.0 + 4);
  double squares = 0;
  for (int i = 0; i < 72; ++i) squares += double{x.floats.data[i]} * x.floats.data[i];
  for (int i = 0; i < 72; ++i) {
    const double expected = x.floats.data[i] / std::sqrt(squares / 72 + 1e-5) * weight.floats.data[i];
    EXPECT_NEAR(out.data[i], expected, bound * std::abs(expected));
  }
  for (int i = 72; i < 96; ++i) EXPECT_EQ(out.data[i], 0.0f);
}

TEST_P(KernelTest, SiluMultiply) {
  Aligned<float> gate(256), up(256, 3.0f);
  for (int i = 0; i < 256; ++i) gate.data[i] = static_cast<float>(i - 128) * 0.75f;
  kernels().silu_multiply(gate.data, up.data, 256);
  for (int i = 0; i < 256; ++i) {
    const double x = (i - 128) * 0.75;
    const double expected = x / (1 + std::exp(-x)) * 3;
    // The exponential, 1 + e, the division and the product. exp is clamped at 88, where silu is below 1e-35.
    EXPECT_NEAR(gate.data[i], expected, test::Gamma(test::kExpRoundings + 3) * std::abs(expected) + 1e-35) << x;
  }
}

TEST_P(KernelTest, Rotate) {
  std::mt19937 random(6);
  Inputs x(1, 64);
  FillRows(x, 1, 64, random);
  Aligned<float> head(64), cosines(32), sines(32);
  for (int i = 0; i < 32; ++i) {
    cosines.data[i] = static_cast<float>(std::cos(0.3 * i));
    sines.data[i] = static_cast<float>(std::sin(0.3 * i));
  }
  std::copy(x.floats.data, x.floats.data + 64, head.data);
  kernels().rotate(head.data, cosines.data, sines.data, 64, 0.5f);
  for (int i = 0; i < 32; ++i) {
    const double a = x.floats.data[i], b = x.floats.data[i + 32], c = cosines.data[i], s = sines.data[i];
    const double bound = test::Gamma(3) * (std::abs(a) + std::abs(b));  // product, sum, scale
    EXPECT_NEAR(head.data[i], (a * c - b * s) / 2, bound);
    EXPECT_NEAR(head.data[i + 32], (b * c + a * s) / 2, bound);
  }
}

struct ExactAttention {
  std::vector<double> out;        // [head_dim]
  std::vector<double> magnitude;  // the same average of |value|
  double products = 0;            // largest sum of |query key| of a position
  double range = 0;               // largest score - smallest
};

ExactAttention AttendExactly(const float* query, const std::vector<std::vector<float>>& keys,
                             const std::vector<std::vector<float>>& values, std::int32_t length) {
  const std::size_t dim = keys[0].size();
  ExactAttention exact{std::vector<double>(dim), std::vector<double>(dim)};
  double total = 0, highest = -1e300, lowest = 1e300;
  for (std::int32_t p = 0; p < length; ++p) {
    double score = 0, products = 0;
    for (std::size_t d = 0; d < dim; ++d) {
      score += double{query[d]} * keys[p][d];
      products += std::abs(double{query[d]} * keys[p][d]);
    }
    exact.products = std::max(exact.products, products);
    highest = std::max(highest, score);
    lowest = std::min(lowest, score);
    total += std::exp(score);
    for (std::size_t d = 0; d < dim; ++d) {
      exact.out[d] += std::exp(score) * values[p][d];
      exact.magnitude[d] += std::exp(score) * std::abs(values[p][d]);
    }
  }
  for (std::size_t d = 0; d < dim; ++d) {
    exact.out[d] /= total;
    exact.magnitude[d] /= total;
  }
  exact.range = highest - lowest;
  return exact;
}

// Largest error of an element, by its `magnitude`. A score is off by (gamma(head_dim) + v for keys in fp16) sum |q k|;
// its weight by that, and in its block and in every fold by the rounding of the difference, u range, and of the
// exponential. Weights off by the factor 1 + eta move a weighted average by at most 2 eta / (1 - eta) of the magnitude.
// Then come the chains: 64 values and two roundings a fold above, six levels and two a fold below the line, the
// division as two. Values in fp16 are off by v.
double AttentionBound(const ExactAttention& exact, std::int32_t head_dim, std::int32_t length, bool half) {
  const double blocks = (length + kAttentionBlock - 1) / kAttentionBlock;
  const double rounding = half ? test::kHalfUnit : 0;
  const double score = (test::Gamma(head_dim) + rounding) * exact.products;
  const double weight = std::expm1(score + (1 + blocks) * kEps * (exact.range + test::kExpRoundings));
  return 2 * weight / (1 - weight) + test::Gamma(kAttentionBlock + 2 * blocks) + test::Gamma(6 + 2 * blocks) +
         test::Gamma(2) + rounding;
}

// Attention over pages whose unused part is NaN, against double on the keys and values before they are stored.
TEST_P(KernelTest, Attention) {
  constexpr std::int32_t kDim = 64, kLength = 150, kQueries = 4;
  for (std::int32_t tokens : {4, 64}) {
    for (bool half : {true, false}) {
      SCOPED_TRACE(testing::Message() << tokens << (half ? " fp16" : " fp32"));
      std::mt19937 random(8);
      std::normal_distribution<float> normal;
      const std::int32_t num_pages = kLength / tokens + 1;
      const std::int64_t element = half ? 2 : 4;
      Aligned<std::byte> pool(num_pages * 2 * tokens * kDim * element, std::byte{0xFF});
      std::vector<std::int32_t> pages;
      for (std::int32_t p = num_pages; p > 0; --p) pages.push_back(p - 1);
      const KvPlanes kv = {
          pool.data, 2 * tokens * kDim * element, 0, tokens * kDim * element, pages.data(), tokens, kDim, half};
      std::vector<std::vector<float>> keys, values;
      for (std::int32_t p = 0; p < kLength; ++p) {
        Aligned<float> key(kDim), value(kDim);
        for (int d = 0; d < kDim; ++d) {
          key.data[d] = normal(random);
          value.data[d] = normal(random);
        }
        kernels().append(kv, p, key.data, value.data);
        keys.emplace_back(key.data, key.data + kDim);
        values.emplace_back(value.data, value.data + kDim);
      }
      Aligned<float> queries(kQueries * kDim), k(64 * kDim), v(64 * kDim), scores(kQueries * 64);
      Aligned<float> states(kQueries * StateFloats(kDim));
      for (int i = 0; i < kQueries * kDim; ++i) queries.data[i] = 0.2f * normal(random);
      const std::vector<std::int32_t> lengths = {60, 64, 128, kLength};
      AttendCall call = {
          kv, queries.data, lengths.data(), kQueries, 0, 3, nullptr, 0, {k.data, v.data, scores.data, states.data}};
      kernels().attend(call);
      double used = 0;
      for (int q = 0; q < kQueries; ++q) {
        Aligned<float> out(kDim);
        kernels().finish(states.data + q * StateFloats(kDim), kDim, out.data);
        const ExactAttention exact = AttendExactly(queries.data + q * kDim, keys, values, lengths[q]);
        for (int d = 0; d < kDim; ++d) {
          const double bound = AttentionBound(exact, kDim, lengths[q], half) * exact.magnitude[d];
          const double error = std::abs(out.data[d] - exact.out[d]);
          used = std::max(used, error / bound);
          EXPECT_LE(error, bound);
        }
      }
      EXPECT_GT(used, 0.001) << "the bound would hide mistakes";
    }
  }
}

TEST_P(KernelTest, ArgMaxTakesTheFirst) {
  for (int n : {1, 2, 15, 16, 17, 250}) {
    for (int at = 0; at < n; ++at) {
      std::vector<float> x(static_cast<std::size_t>(n), -5.0f);
      for (int i = at; i < n; i += 3) x[i] = 2.0f;
      EXPECT_EQ(kernels().arg_max(x.data(), n), at);
    }
  }
}

TEST_P(KernelTest, ExpWeightsEqualTheScalar) {
  std::mt19937 random(9);
  std::uniform_real_distribution<float> uniform(-32.0f, 0.0f);
  std::vector<float> x = {
      0.0f, -1e-8f, -28.9999f, -29.0f, -29.0001f, -1000.0f, -std::numeric_limits<float>::infinity()};
  for (int i = 0; i < 20000; ++i) x.push_back(uniform(random));
  for (int i = 0; i < 3000; ++i) x.push_back(-0.01f * static_cast<float>(i));
  for (float temperature : {1.0f, 0.7f, 3.0f}) {
    std::vector<std::uint64_t> weights(x.size());
    const std::uint64_t total =
        kernels().exp_weights(x.data(), static_cast<std::int32_t>(x.size()), 0.0f, temperature, weights.data());
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(weights[i], layout::ExpWeight(x[i] / temperature)) << x[i];
      sum += weights[i];
    }
    EXPECT_EQ(total, sum);
  }
}

}  // namespace
}  // namespace megakernel::cpu
