// The reference against transformers' float32 logits (goldens by tests/reference/transformers_logits.py), and against
// itself: chunking, threads, rewinding, float mode.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <numeric>

#include "engine/model/hf_model.h"
#include "kernels/reference/forward.h"
#include "tests/support/logit_dump.h"
#include "tests/support/reference_model.h"
#include "tests/support/temp_checkpoint.h"

namespace megakernel::test {
namespace {

using reference::AngleRounding;
using reference::Forward;
using reference::ForwardOptions;

// Relative error that a float32 evaluation may have at `position`.
// Rounding errors of a sum of n terms behave like a random walk: about sqrt(n) * 2^-24 of the terms' norm (Higham and
// Mary, SIAM J. Sci. Comput. 41, 2019). Along the longest path through a layer the sums are norm, QKV, scores, weighted
// values, O, norm, gate/up, down; their errors are added as if they all pointed the same way. Angles rounded to float
// turn the pairs of keys and queries by up to position * frequency * 2^-24 radians each; a head feels their root mean
// square.
double FloatBound(const reference::Shape& s, std::int64_t position) {
  const double unit = std::ldexp(1.0, -24);
  const auto walk = [](double terms) { return std::sqrt(terms); };
  const double sums = 4 * walk(s.hidden) + walk(s.head_dim) + walk(static_cast<double>(position + 1)) +
                      walk(static_cast<double>(s.QueryWidth())) + walk(s.ffn);
  const auto frequencies = reference::RopeFrequencies(s.rope, s.head_dim);
  const double squares = std::inner_product(frequencies.begin(), frequencies.end(), frequencies.begin(), 0.0);
  const double turn = static_cast<double>(position) * std::sqrt(squares / static_cast<double>(frequencies.size()));
  return unit * (s.num_layers * (sums + 2.0 * turn) + 2 * walk(s.hidden));
}

struct Loaded {
  TempCheckpoint checkpoint;
  std::unique_ptr<Model> model;
  std::unique_ptr<ReferenceModel> reference;

  explicit Loaded(const std::string& preset) : checkpoint(preset, 1) {
    EXPECT_TRUE(checkpoint.status().ok()) << checkpoint.status();
    auto loaded = LoadHfModel(checkpoint.path());
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    if (!loaded.ok()) return;
    model = *std::move(loaded);
    reference = std::make_unique<ReferenceModel>(*model);
  }
};

template <class Real>
std::vector<float> Rows(const reference::ModelView& view, const LogitSequence& sequence, std::size_t chunk,
                        const ForwardOptions& options) {
  Forward<Real> forward(view, options);
  std::vector<float> rows;
  for (std::size_t first = 0; first < sequence.tokens.size(); first += chunk) {
    const std::size_t count = std::min(chunk, sequence.tokens.size() - first);
    forward.Step(std::span(sequence.tokens).subspan(first, count));
    for (const std::int32_t position : sequence.positions) {
      const std::int64_t row = position - static_cast<std::int64_t>(first);
      if (row < 0 || row >= static_cast<std::int64_t>(count)) continue;
      for (const Real value : forward.Logits(row)) rows.push_back(static_cast<float>(value));
    }
  }
  return rows;
}

class GoldenTest : public testing::TestWithParam<const char*> {
 protected:
  LogitDump Golden() const {
    auto dump = ReadLogitDump(std::string(MEGAKERNEL_SOURCE_DIR) + "/tests/kernels/goldens/" + GetParam());
    EXPECT_TRUE(dump.ok()) << dump.status();
    return dump.ok() ? *std::move(dump) : LogitDump{};
  }
};

TEST_P(GoldenTest, DoubleAgreesWithTransformersFloat) {
  const Loaded loaded(GetParam());
  ASSERT_NE(loaded.reference, nullptr);
  const reference::ModelView& view = loaded.reference->view();
  const LogitDump golden = Golden();
  ASSERT_EQ(golden.sequences.size(), 1u);
  ASSERT_EQ(golden.vocab, view.shape.vocab);
  EXPECT_EQ(golden.sequences[0].tokens, RandomTokens(1, 300, golden.vocab));

  const auto rows = Rows<double>(view, golden.sequences[0], 64, {.threads = 2, .angles = AngleRounding::kFloat});
  ASSERT_EQ(rows.size(), golden.rows.size());
  const LogitErrors errors = CompareLogits(rows, golden.rows, golden.vocab);
  for (std::size_t i = 0; i < errors.relative.size(); ++i) {
    const std::int64_t position = golden.sequences[0].positions[i];
    const double bound = FloatBound(view.shape, position);
    EXPECT_LE(errors.relative[i], bound) << "position " << position;
    std::printf("%s position %3d: %.2e, %.0f %% of the bound\n", GetParam(), static_cast<int>(position),
                errors.relative[i], 100 * errors.relative[i] / bound);
  }
  EXPECT_EQ(errors.argmax_differs_beyond_margin, 0);
}

TEST_P(GoldenTest, FloatModeStaysWithinTheSameBound) {
  const Loaded loaded(GetParam());
  ASSERT_NE(loaded.reference, nullptr);
  const LogitDump golden = Golden();
  ASSERT_EQ(golden.sequences.size(), 1u);
  const auto exact = Rows<double>(loaded.reference->view(), golden.sequences[0], 64, {.threads = 2});
  const auto rounded = Rows<float>(loaded.reference->view(), golden.sequences[0], 64, {.threads = 2});
  const LogitErrors errors = CompareLogits(exact, rounded, golden.vocab);
  for (std::size_t i = 0; i < errors.relative.size(); ++i) {
    EXPECT_LE(errors.relative[i], FloatBound(loaded.reference->view().shape, golden.sequences[0].positions[i]));
  }
  EXPECT_GT(errors.relative_max, 0.0) << "float mode computes in double";
}

TEST_P(GoldenTest, LogitsAreOfAUsefulSize) {
  for (const float value : Golden().rows) ASSERT_LT(std::fabs(value), 25.0f);
  const LogitDump golden = Golden();
  double squares = 0.0;
  for (const float value : golden.rows) squares += double{value} * value;
  const double rms = std::sqrt(squares / static_cast<double>(golden.rows.size()));
  EXPECT_GT(rms, 1.5);
  EXPECT_LT(rms, 4.0);
}

INSTANTIATE_TEST_SUITE_P(Presets, GoldenTest, testing::Values("qwen3-tiny", "qwen2-tiny", "llama-tiny", "smollm2-tiny"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(ReferenceForwardTest, ChunksAndThreadsChangeNothing) {
  const Loaded loaded("qwen3-tiny");
  ASSERT_NE(loaded.reference, nullptr);
  const LogitSequence sequence = {RandomTokens(5, 23, 1024), {0, 3, 22}};
  const auto expected = Rows<double>(loaded.reference->view(), sequence, 1, {.threads = 1});
  EXPECT_EQ(Rows<double>(loaded.reference->view(), sequence, 5, {.threads = 3}), expected);
  EXPECT_EQ(Rows<double>(loaded.reference->view(), sequence, 23, {.threads = 2}), expected);
}

TEST(ReferenceForwardTest, TruncateForgetsExactlyTheTail) {
  const Loaded loaded("llama-tiny");
  ASSERT_NE(loaded.reference, nullptr);
  const auto tokens = RandomTokens(6, 12, 1000);
  Forward<double> forward(loaded.reference->view(), {});
  forward.Step(std::span(tokens).first(7));
  forward.Step(std::span(tokens).subspan(7, 4));
  forward.Truncate(7);
  EXPECT_EQ(forward.length(), 7);
  forward.Step(std::span(tokens).subspan(7, 5));
  Forward<double> straight(loaded.reference->view(), {});
  straight.Step(tokens);
  EXPECT_EQ(forward.Logits(4), straight.Logits(11));
}

TEST(ReferenceForwardTest, ObserverSeesEveryStageOnceALayer) {
  const Loaded loaded("smollm2-tiny");
  ASSERT_NE(loaded.reference, nullptr);
  Forward<double> forward(loaded.reference->view(), {});
  std::map<reference::Stage, int> seen;
  forward.set_observer([&](reference::Stage stage, std::int32_t, std::int64_t first, std::span<const double> values,
                           std::int64_t width) {
    EXPECT_EQ(first, 0);
    EXPECT_EQ(static_cast<std::int64_t>(values.size()), 2 * width) << reference::StageName(stage);
    ++seen[stage];
  });
  const std::vector<std::int32_t> tokens = {1, 2};
  forward.Step(tokens);
  EXPECT_EQ(seen.size(), 11u);
  EXPECT_EQ(seen[reference::Stage::kEmbedding], 1);
  EXPECT_EQ(seen[reference::Stage::kActivation], 2);
}

}  // namespace
}  // namespace megakernel::test
