// Logits of small random models against the reference interpreter in double: every family, element type and kind of
// rotary scaling. Other code wrote the reference, so a misread formula shows here.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "kernels/reference/forward.h"
#include "tests/engine/cpu/evaluator.h"
#include "tests/engine/cpu/runner.h"
#include "tests/engine/cpu/synthetic_model.h"
#include "tests/support/reference_model.h"

namespace megakernel::test {
namespace {

constexpr std::int32_t kTokens = 140;  // three blocks of attention

struct Case {
  const char* name;
  void (*shape)(SyntheticOptions&);
  void (*config)(ModelConfig&);
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

class ReferenceTest : public testing::TestWithParam<Case> {
 protected:
  // Largest difference over all positions, relative to the largest logit of the position.
  double Error(const EvaluatorOptions& evaluator_options) {
    SyntheticOptions options;
    options.matrices = TensorType::kF32;
    options.embedding = TensorType::kF32;
    GetParam().shape(options);
    SyntheticModel model(options);
    GetParam().config(model.mutable_config());
    const std::vector<TokenId> tokens = RandomTokens(kTokens, options.vocab, 11);
    const ReferenceModel view(model);
    reference::Forward<double> reference(view.view(), {.angles = reference::AngleRounding::kFloat});
    reference.Step(tokens);
    Evaluator evaluator(model, evaluator_options);
    double error = 0;
    evaluator.Run(tokens, 0, [&](std::int32_t position, const float* logits) {
      const std::vector<double> expected = reference.Logits(position);
      double largest = 0, difference = 0;
      for (std::int32_t t = 0; t < options.vocab; ++t) {
        largest = std::max(largest, std::abs(expected[t]));
        difference = std::max(difference, std::abs(expected[t] - logits[t]));
        EXPECT_TRUE(std::isfinite(logits[t]));
      }
      error = std::max(error, difference / largest);
    });
    return error;
  }
};

void Same(ModelConfig&) {}

INSTANTIATE_TEST_SUITE_P(
    Model, ReferenceTest,
    testing::Values(Case{"f32", [](SyntheticOptions&) {}, Same},
                    Case{"f16", [](SyntheticOptions& o) { o.matrices = TensorType::kF16; }, Same},
                    Case{"bf16", [](SyntheticOptions& o) { o.matrices = o.embedding = TensorType::kBF16; }, Same},
                    Case{"q8_0", [](SyntheticOptions& o) { o.matrices = o.embedding = TensorType::kQ8_0; }, Same},
                    Case{"q4_0", [](SyntheticOptions& o) { o.matrices = TensorType::kQ4_0; }, Same},
                    Case{"q4_1", [](SyntheticOptions& o) { o.matrices = TensorType::kQ4_1; }, Same},
                    Case{"untied", [](SyntheticOptions& o) { o.tied_embedding = false; }, Same},
                    Case{"qwen3",
                         [](SyntheticOptions& o) {
                           o.family = Family::kQwen3;
                           o.qk_norm = true;
                           o.head_dim = 128;
                           o.num_q_heads = 4;
                         },
                         Same},
                    Case{"qwen2",
                         [](SyntheticOptions& o) {
                           o.family = Family::kQwen2;
                           o.qkv_bias = true;
                           o.num_q_heads = 7;
                           o.num_kv_heads = 1;
                         },
                         Same},
                    Case{"rope_linear", [](SyntheticOptions&) {},
                         [](ModelConfig& c) {
                           c.rope_scaling = RopeScaling::kLinear;
                           c.rope_factor = 4.0;
                         }},
                    Case{"rope_llama3", [](SyntheticOptions&) {},
                         [](ModelConfig& c) {
                           c.rope_scaling = RopeScaling::kLlama3;
                           c.rope_factor = 8.0;
                           c.rope_original_context = 64;
                         }}),
    [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

// fp32 everywhere: a few hundred roundings of 2^-24 a layer.
TEST_P(ReferenceTest, Fp32) {
  const double error = Error({.fp32 = true, .fp32_kv = true});
  std::printf("relative error %.1e\n", error);
  EXPECT_LE(error, 1e-5);
}

// 16-bit activations. An input is off by up to 2^-16 of its block's largest, which is about 3 standard deviations: rms
// 2.6e-5. Nine matrices in a row make 7.9e-5 of a standard deviation, the largest of 35,000 logits 5 times that, the
// largest logit is 2.5 standard deviations: 1.6e-4, and softmax of scores of size 3 triples what reaches it.
TEST_P(ReferenceTest, SixteenBitActivations) {
  const double error = Error({.fp32 = false, .fp32_kv = true});
  std::printf("relative error %.1e\n", error);
  EXPECT_LE(error, 5e-4);
}

// fp16 keys and values on top: up to 2^-11 of each, rms 1.6e-4 of a value and, through a score of size 3, of a weight.
TEST_P(ReferenceTest, Fp16Kv) {
  const double error = Error({.fp32 = false, .fp32_kv = false});
  std::printf("relative error %.1e\n", error);
  EXPECT_LE(error, 2e-3);
}

}  // namespace
}  // namespace megakernel::test
