// Logits of small random models against the reference interpreter in double: every family, element type and kind of
// rotary scaling. Other code wrote the reference, so a misread formula shows here.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <numeric>

#include "tests/engine/cpu/error_model.h"
#include "tests/engine/cpu/evaluator.h"
#include "tests/engine/cpu/runner.h"
#include "tests/engine/cpu/synthetic_model.h"
#include "tests/support/reference_model.h"

namespace megakernel::test {
namespace {

constexpr std::int32_t kTokens = 140;  // three blocks of attention
constexpr std::uint32_t kDraws = 3;

struct Case {
  const char* name;
  void (*shape)(SyntheticOptions&);
  void (*config)(ModelConfig&);
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

// Types whose products run on 16-bit integers.
bool HasIntegers(TensorType type) {
  return BlockElements(type) > 1;
}

class ReferenceTest : public testing::TestWithParam<Case> {
 protected:
  // The executor's logits against exact ones, beside what error_model.h makes of its arithmetic.
  void ExpectErrorsOf(const EvaluatorOptions& evaluator_options) {
    SyntheticOptions options;
    options.matrices = TensorType::kF32;
    options.embedding = TensorType::kF32;
    GetParam().shape(options);
    SyntheticModel model(options);
    GetParam().config(model.mutable_config());
    const ReferenceModel view(model);
    const std::vector<TokenId> tokens = RandomTokens(kTokens, options.vocab, 11);
    std::vector<std::int32_t> positions(kTokens);
    std::iota(positions.begin(), positions.end(), 0);
    const auto exact = ReferenceLogits(view.view(), tokens, positions, nullptr, 0, 1);

    std::vector<std::vector<double>> logits;
    Evaluator evaluator(model, evaluator_options);
    evaluator.Run(tokens, 0, [&](std::int32_t, const float* row) {
      logits.emplace_back(row, row + options.vocab);
      for (const double logit : logits.back()) EXPECT_TRUE(std::isfinite(logit));
    });
    const double error = RootMeanSquare(RowErrors(logits, exact));

    const bool fp32 = evaluator_options.fp32;
    const Arithmetic arithmetic = {.integer_inputs = !fp32 && HasIntegers(options.matrices),
                                   .integer_head = !fp32 && HasIntegers(options.embedding),
                                   .half_kv = !evaluator_options.fp32_kv};
    std::vector<double> estimates;
    for (std::uint32_t seed = 1; seed <= kDraws; ++seed) {
      const auto drawn = ReferenceLogits(view.view(), tokens, positions, &arithmetic, seed, 1);
      estimates.push_back(RootMeanSquare(RowErrors(drawn, exact)));
    }
    const double estimate = RootMeanSquare(estimates);
    std::printf("root mean square error %.2e, estimated %.2e, ratio %.2f\n", error, estimate, error / estimate);
    EXPECT_LE(error, kSpread * estimate);
    EXPECT_GE(error, estimate / kSpread);
  }
};

void Same(ModelConfig&) {}

// Rows of whole blocks of 256.
void SuperBlocks(SyntheticOptions& options, TensorType type) {
  options.matrices = options.embedding = type;
  options.hidden = options.ffn = 256;
  options.num_q_heads = 8;
}

INSTANTIATE_TEST_SUITE_P(
    Model, ReferenceTest,
    testing::Values(Case{"f32", [](SyntheticOptions&) {}, Same},
                    Case{"f16", [](SyntheticOptions& o) { o.matrices = TensorType::kF16; }, Same},
                    Case{"bf16", [](SyntheticOptions& o) { o.matrices = o.embedding = TensorType::kBF16; }, Same},
                    Case{"q8_0", [](SyntheticOptions& o) { o.matrices = o.embedding = TensorType::kQ8_0; }, Same},
                    Case{"q4_0", [](SyntheticOptions& o) { o.matrices = TensorType::kQ4_0; }, Same},
                    Case{"q4_1", [](SyntheticOptions& o) { o.matrices = TensorType::kQ4_1; }, Same},
                    Case{"q5_0", [](SyntheticOptions& o) { o.matrices = o.embedding = TensorType::kQ5_0; }, Same},
                    Case{"q5_1", [](SyntheticOptions& o) { o.matrices = TensorType::kQ5_1; }, Same},
                    Case{"iq4_nl", [](SyntheticOptions& o) { o.matrices = TensorType::kIQ4_NL; }, Same},
                    Case{"q4_k", [](SyntheticOptions& o) { SuperBlocks(o, TensorType::kQ4_K); }, Same},
                    Case{"q5_k", [](SyntheticOptions& o) { SuperBlocks(o, TensorType::kQ5_K); }, Same},
                    Case{"q6_k", [](SyntheticOptions& o) { SuperBlocks(o, TensorType::kQ6_K); }, Same},
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

TEST_P(ReferenceTest, Fp32) {
  ExpectErrorsOf({.fp32 = true, .fp32_kv = true});
}

TEST_P(ReferenceTest, SixteenBitActivations) {
  ExpectErrorsOf({.fp32 = false, .fp32_kv = true});
}

TEST_P(ReferenceTest, Fp16Kv) {
  ExpectErrorsOf({.fp32 = false, .fp32_kv = false});
}

}  // namespace
}  // namespace megakernel::test
