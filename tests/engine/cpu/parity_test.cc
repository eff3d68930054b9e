// Greedy tokens and logits against transformers on the real model: goldens/greedy.bin, 20 prompts x 128 tokens, fed
// with the reference's own tokens. A different argmax is allowed only where the reference's gap between its two best
// tokens is at most twice the largest logit error of the run, and at 1 % of the positions. What a logit error may be
// follows from the arithmetic and the model: error_model.h.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <numeric>
#include <vector>

#include "engine/cpu/processor_count.h"
#include "engine/model/model.h"
#include "tests/engine/cpu/error_model.h"
#include "tests/engine/cpu/evaluator.h"
#include "tests/support/reference_model.h"

namespace megakernel::cpu {
namespace {

struct Choice {
  std::int32_t best, second;
  float best_logit, second_logit;
};

struct Golden {
  std::vector<TokenId> prompt;
  std::vector<Choice> choices;
  std::map<std::uint32_t, std::vector<float>> rows;  // step to all logits
};

// goldens/README.md
std::vector<Golden> ReadGoldens() {
  std::ifstream file(GOLDENS_FOLDER "/greedy.bin", std::ios::binary);
  const auto read = [&](void* target, std::size_t bytes) {
    file.read(static_cast<char*>(target), static_cast<std::streamsize>(bytes));
  };
  char magic[8];
  std::uint32_t header[4];
  read(magic, sizeof magic);
  read(header, sizeof header);
  if (!file || std::memcmp(magic, "MKGREEDY", 8) != 0 || header[0] != 1) return {};
  std::vector<Golden> goldens(header[2]);
  for (Golden& golden : goldens) {
    std::uint32_t sizes[2];
    read(sizes, sizeof sizes);
    golden.prompt.resize(sizes[0]);
    golden.choices.resize(sizes[1]);
    read(golden.prompt.data(), 4 * golden.prompt.size());
    read(golden.choices.data(), sizeof(Choice) * golden.choices.size());
  }
  for (std::uint32_t i = 0; i < header[3]; ++i) {
    std::uint32_t at[2];
    read(at, sizeof at);
    std::vector<float>& row = goldens[at[0]].rows[at[1]];
    row.resize(header[1]);
    read(row.data(), 4 * row.size());
  }
  return file ? goldens : std::vector<Golden>{};
}

// Positions of the first golden at which the error is estimated: as many as the time allows, the last ones of these.
constexpr std::int32_t kEstimatedLength = 64;
constexpr std::int32_t kEstimatedRows = 24;

// Logits of the executor at the estimated positions against exact ones, and against what error_model.h says of its
// arithmetic. Returns the estimated deviation of a logit's error at the worst position of the goldens.
double ExpectEstimatedErrors(const Model& model, test::Evaluator& evaluator, const Golden& golden,
                             const test::Arithmetic& arithmetic) {
  const test::ReferenceModel reference(model);
  std::vector<TokenId> tokens = golden.prompt;
  for (const Choice& choice : golden.choices) tokens.push_back(choice.best);
  tokens.resize(kEstimatedLength);
  std::vector<std::int32_t> positions(kEstimatedRows);
  std::iota(positions.begin(), positions.end(), kEstimatedLength - kEstimatedRows);
  const int threads = UsableProcessors();
  const auto exact = test::ReferenceLogits(reference.view(), tokens, positions, nullptr, 0, threads);
  const auto drawn = test::ReferenceLogits(reference.view(), tokens, positions, &arithmetic, 1, threads);
  std::vector<std::vector<double>> logits;
  evaluator.Run(tokens, positions.front(),
                [&](std::int32_t, const float* row) { logits.emplace_back(row, row + model.config().vocab); });
  const std::vector<double> estimates = test::RowErrors(drawn, exact);
  const double error = test::RootMeanSquare(test::RowErrors(logits, exact));
  const double estimate = test::RootMeanSquare(estimates);
  std::printf("against exact logits: root mean square error %.2e, estimated %.2e, ratio %.2f\n", error, estimate,
              error / estimate);
  EXPECT_LE(error, test::kSpread * estimate);
  EXPECT_GE(error, estimate / test::kSpread);
  return test::DeviationOfWorstPosition(estimates);
}

void ExpectParity(bool fp32) {
  const char* path = std::getenv("MEGAKERNEL_TEST_MODEL");
  ASSERT_NE(path, nullptr) << "MEGAKERNEL_TEST_MODEL names the default model's file";
  const auto model = LoadModel(path);
  ASSERT_TRUE(model.ok()) << model.status();
  const std::vector<Golden> goldens = ReadGoldens();
  ASSERT_EQ(goldens.size(), 20u);
  test::Evaluator evaluator(**model, {.fp32 = fp32, .fp32_kv = fp32});
  const test::Arithmetic arithmetic = {.integer_inputs = !fp32, .integer_head = !fp32, .half_kv = !fp32};
  const double worst = ExpectEstimatedErrors(**model, evaluator, goldens[0], arithmetic);
  // The goldens are float32 arithmetic too: two errors of the same size where the executor's is.
  const double bound = test::kLargestOfARow * worst * (fp32 ? std::sqrt(2.0) : 1.0);
  const std::int32_t vocab = (*model)->config().vocab;
  double error = 0;
  int positions = 0;
  std::vector<double> gaps;  // of the reference, where the argmax differs
  for (const Golden& golden : goldens) {
    std::vector<TokenId> tokens = golden.prompt;
    for (const Choice& choice : golden.choices) tokens.push_back(choice.best);
    tokens.pop_back();
    const auto first = static_cast<std::int32_t>(golden.prompt.size()) - 1;
    evaluator.Run(tokens, first, [&](std::int32_t position, const float* logits) {
      const auto step = static_cast<std::uint32_t>(position - first);
      const Choice& choice = golden.choices[step];
      ++positions;
      error = std::max<double>(error, std::abs(logits[choice.best] - choice.best_logit));
      error = std::max<double>(error, std::abs(logits[choice.second] - choice.second_logit));
      if (const auto row = golden.rows.find(step); row != golden.rows.end()) {
        for (std::int32_t t = 0; t < vocab; ++t) error = std::max<double>(error, std::abs(logits[t] - row->second[t]));
      }
      const auto argmax = static_cast<TokenId>(std::max_element(logits, logits + vocab) - logits);
      // Where a third token wins, its gap in the reference is at least that of the second.
      if (argmax != choice.best) gaps.push_back(choice.best_logit - choice.second_logit);
    });
  }
  const double widest = gaps.empty() ? 0.0 : *std::max_element(gaps.begin(), gaps.end());
  std::printf("%s: %d positions, %zu other argmaxes (largest gap %.2e), largest logit error %.2e, bound %.2e\n",
              fp32 ? "fp32" : "16-bit activations, fp16 KV", positions, gaps.size(), widest, error, bound);
  EXPECT_EQ(positions, 20 * 128);
  EXPECT_LE(error, bound);
  EXPECT_LE(widest, 2 * error);
  EXPECT_LE(static_cast<double>(gaps.size()), 0.01 * positions);
}

TEST(ParityTest, ReferenceMode) {
  ExpectParity(true);
}

TEST(ParityTest, SixteenBitActivations) {
  ExpectParity(false);
}

}  // namespace
}  // namespace megakernel::cpu
