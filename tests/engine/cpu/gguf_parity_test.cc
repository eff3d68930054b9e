// GGUF files that others wrote, one or more of every element type, against transformers on the dequantised weights:
// goldens/gguf, by tests/reference/gguf_goldens.py. The simple types come from PyPI gguf, K-quants and IQ4_NL from
// llama.cpp's quantiser; q4_k_m mixes types, and rows of 96 (narrow_*) get other types than was asked for.
#include <gtest/gtest.h>

#include <cstdio>
#include <set>
#include <string>

#include "tests/engine/cpu/parity_check.h"

namespace megakernel::test {
namespace {

using Types = std::set<TensorType>;

struct File {
  const char* name;
  Types types;  // of its matrices
};

std::ostream& operator<<(std::ostream& out, const File& file) {
  return out << file.name;
}

Types TypesOf(const ModelWeights& weights) {
  Types types = {weights.embedding.type, weights.lm_head.type};
  for (const LayerWeights& layer : weights.layers) {
    for (const TensorView* matrix :
         {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.w_gate, &layer.w_up, &layer.w_down}) {
      types.insert(matrix->type);
    }
  }
  return types;
}

class GgufParityTest : public testing::TestWithParam<File> {
 protected:
  void ExpectParity(bool fp32) {
    const std::string prefix = std::string(GOLDENS_FOLDER "/gguf/") + GetParam().name;
    const auto goldens = ReadParityGoldens(prefix);
    ASSERT_TRUE(goldens.ok()) << goldens.status();
    const auto model = LoadModel(prefix + ".gguf");
    ASSERT_TRUE(model.ok()) << model.status();
    ASSERT_EQ(goldens->vocab, (*model)->config().vocab);
    EXPECT_EQ(TypesOf((*model)->weights()), GetParam().types);
    const ParityReport report = CheckParity(**model, *goldens, fp32);
    std::printf("%s\n", Describe(report).c_str());
    EXPECT_EQ(report.errors.num_rows(), 1 + 7 + 64 + 20);
    EXPECT_TRUE(report.pass()) << Describe(report);
  }
};

INSTANTIATE_TEST_SUITE_P(Files, GgufParityTest,
                         testing::Values(File{"f32", {TensorType::kF32}}, File{"f16", {TensorType::kF16}},
                                         File{"bf16", {TensorType::kBF16}}, File{"q8_0", {TensorType::kQ8_0}},
                                         File{"q4_0", {TensorType::kQ4_0}}, File{"q4_1", {TensorType::kQ4_1}},
                                         File{"q5_0", {TensorType::kQ5_0}}, File{"q5_1", {TensorType::kQ5_1}},
                                         File{"iq4_nl", {TensorType::kIQ4_NL}}, File{"q4_k", {TensorType::kQ4_K}},
                                         File{"q5_k", {TensorType::kQ5_K}}, File{"q6_k", {TensorType::kQ6_K}},
                                         File{"q4_k_m", {TensorType::kQ4_K, TensorType::kQ6_K}},
                                         File{"narrow_q4_k_m", {TensorType::kQ5_0, TensorType::kQ8_0}},
                                         File{"narrow_q5_k_m", {TensorType::kQ5_1, TensorType::kQ8_0}}),
                         [](const testing::TestParamInfo<File>& info) { return info.param.name; });

TEST_P(GgufParityTest, Fp32) {
  ExpectParity(true);
}

TEST_P(GgufParityTest, AsServed) {
  ExpectParity(false);
}

}  // namespace
}  // namespace megakernel::test
