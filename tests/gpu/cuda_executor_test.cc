// The resident kernel behind the engine's interface: tokens of the reference, rows that do not know each other, pages,
// park and wake, stop.
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "absl/time/clock.h"
#include "engine/text/tokenizer.h"
#include "kernels/reference/forward.h"
#include "tests/gpu/cuda_rig.h"
#include "tests/support/reference_model.h"

namespace megakernel::test {
namespace {

// The largest relative error ||l - ref|| / ||ref|| that a row of logits may have.
constexpr double kRelativeBar = 0.005;

// How many tokens of a greedy run are not the reference's choice after the same tokens, although the reference's gap is
// wider than the errors of two logits can be: twice six standard deviations of an error of kRelativeBar that is spread
// over the row.
int WrongChoices(const Model& model, const Ask& ask, const std::vector<TokenId>& tokens) {
  const ReferenceModel view(model);
  reference::ForwardOptions options;
  options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  reference::Forward<float> forward(view.view(), options);
  forward.Step(ask.tokens);
  std::vector<float> logits = forward.Logits(static_cast<std::int64_t>(ask.tokens.size()) - 1);
  int wrong = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    double squares = 0.0;
    for (const float logit : logits) squares += double{logit} * logit;
    const double margin = 12.0 * kRelativeBar * std::sqrt(squares / static_cast<double>(logits.size()));
    const float best = *std::max_element(logits.begin(), logits.end());
    if (best - logits[tokens[i]] > margin) ++wrong;
    const std::int32_t next[1] = {tokens[i]};
    if (i + 1 < tokens.size()) {
      forward.Step(next);
      logits = forward.Logits(0);
    }
  }
  return wrong;
}

class CudaExecutorTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { SKIP_WITHOUT_GPU(); }
  const Model& model() const { return PresetModel(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Presets, CudaExecutorTest, ::testing::Values("qwen3-tiny", "smollm2-tiny", "llama-tiny"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST_P(CudaExecutorTest, GreedyTokensAreTheReferences) {
  for (const auto layout : {layout::KvLayout::kHeadMajor, layout::KvLayout::kTokenMajor}) {
    CudaOptions options = SmallGpu();
    options.kv_layout = layout;
    Runner runner = NewCudaRunner(model(), options);
    for (const int length : {1, 5, 8, 70, 200}) {
      const Ask ask = GpuPrompt(model(), length, 40);
      const Outcome outcome = runner.Run(ask);
      EXPECT_EQ(outcome.tokens.size(), 40u);
      EXPECT_EQ(outcome.cause, FinishCause::kLength);
      EXPECT_EQ(outcome.kv_length, length + 39);
      EXPECT_EQ(WrongChoices(model(), ask, outcome.tokens), 0) << length;
    }
  }
}

TEST_P(CudaExecutorTest, ARowInAnyMixIsTheRowAlone) {
  Runner runner = NewCudaRunner(model(), SmallGpu());
  std::vector<std::pair<Ask, Outcome>> alone;
  for (int i = 0; i < 12; ++i) {
    Ask ask = GpuPrompt(model(), 1 + i * 37 % 150, 20 + i * 5, static_cast<std::uint32_t>(i));
    if (i % 3 == 1) {
      ask.sampling.temperature = 0.8f;
      ask.sampling.top_k = i % 2 == 0 ? 0 : 50;
      ask.sampling.top_p = 0.95f;
      ask.sampling.min_p = i % 4 == 0 ? 0.02f : 0.0f;
      ask.sampling.seed = static_cast<std::uint64_t>(i) << 33 | 5;
    }
    alone.emplace_back(ask, runner.Run(ask));
  }
  for (int round = 0; round < 3; ++round) {
    std::vector<std::pair<std::uint32_t, int>> running;
    for (int i = 0; i < 8; ++i) {
      const int which = (i * 5 + round * 4) % 12;
      running.emplace_back(runner.Start(alone[which].first), which);
      if (round == 1) absl::SleepFor(absl::Milliseconds(1));  // joined between steps
    }
    for (const auto& [epoch, which] : running) {
      EXPECT_EQ(runner.Finish(epoch).tokens, alone[which].second.tokens) << which;
    }
  }
}

TEST_P(CudaExecutorTest, TwentyRunsAndOtherGridsGiveTheSameTokens) {
  const Ask ask = GpuPrompt(model(), 77, 60);
  std::vector<TokenId> first;
  for (const int blocks : {0, 100, 60}) {
    CudaOptions options = SmallGpu();
    options.persistent_blocks = blocks;
    Runner runner = NewCudaRunner(model(), options);
    for (int i = 0; i < (blocks == 0 ? 20 : 2); ++i) {
      const Outcome outcome = runner.Run(ask);
      if (first.empty()) first = outcome.tokens;
      EXPECT_EQ(outcome.tokens, first) << blocks << " blocks, run " << i;
    }
  }
}

TEST_P(CudaExecutorTest, PrefilledAndCopiedPagesAreContinued) {
  Runner runner = NewCudaRunner(model(), SmallGpu());
  Ask whole = GpuPrompt(model(), 150, 30);
  const std::vector<TokenId> expected = runner.Run(whole).tokens;
  Ask prefill = whole;
  prefill.pages = runner.Pages(180);
  prefill.prefill_only = true;
  prefill.max_tokens = 0;
  const Outcome prefilled = runner.Run(prefill);
  EXPECT_EQ(prefilled.cause, FinishCause::kPrefilled);
  EXPECT_EQ(prefilled.kv_length, 149);
  // A fork: two shared pages and a copy of the third, which holds positions 128 to 148.
  Ask fork = whole;
  fork.kv_length = 149;
  fork.pages = runner.Pages(180);
  fork.pages[0] = prefill.pages[0];
  fork.pages[1] = prefill.pages[1];
  EXPECT_TRUE(runner.executor().Submit(CopyPage{prefill.pages[2], fork.pages[2]}).ok());
  EXPECT_EQ(runner.Run(fork).tokens, expected);
  Ask rest = prefill;
  rest.prefill_only = false;
  rest.kv_length = 149;
  rest.max_tokens = 30;
  EXPECT_EQ(runner.Run(rest).tokens, expected);
}

TEST_P(CudaExecutorTest, PagesThatWereReadAndWrittenElsewhereAreContinued) {
  Runner runner = NewCudaRunner(model(), SmallGpu());
  const Ask whole = GpuPrompt(model(), 150, 30);
  const std::vector<TokenId> expected = runner.Run(whole).tokens;
  Ask prefill = whole;
  prefill.pages = runner.Pages(180);
  prefill.prefill_only = true;
  prefill.max_tokens = 0;
  runner.Run(prefill);
  const std::uint32_t other = runner.Start(GpuPrompt(model(), 20, 1500));  // the kernel runs meanwhile
  const std::vector<std::byte> bytes = runner.ReadBytes(prefill.pages);
  Ask rest = whole;
  rest.kv_length = 149;
  rest.pages = runner.Pages(180);
  EXPECT_TRUE(runner.executor().Submit(WritePages{rest.pages, bytes}).ok());
  EXPECT_EQ(runner.Run(rest).tokens, expected);
  EXPECT_EQ(runner.Finish(other).tokens.size(), 1500u);
}

TEST_P(CudaExecutorTest, ParksAndWakes) {
  CudaOptions options = SmallGpu();
  options.park_after_us = 300;
  Runner runner = NewCudaRunner(model(), options);
  const Ask ask = GpuPrompt(model(), 20, 10);
  const std::vector<TokenId> expected = runner.Run(ask).tokens;
  for (int round = 0; round < 30; ++round) {
    if (round % 3 == 0) {
      EXPECT_TRUE(runner.executor().Submit(Park{}).ok());
    }
    absl::SleepFor(absl::Microseconds(50 * round));
    EXPECT_EQ(runner.Run(ask).tokens, expected) << round;
  }
}

TEST_P(CudaExecutorTest, AStopTokenAndACancelEndALane) {
  Runner runner = NewCudaRunner(model(), SmallGpu());
  Ask ask = GpuPrompt(model(), 20, 40);
  const std::vector<TokenId> free = runner.Run(ask).tokens;
  ask.sampling.stop_tokens = {free[7]};
  const auto first = std::find(free.begin(), free.end(), free[7]) - free.begin();
  const Outcome stopped = runner.Run(ask);
  EXPECT_EQ(stopped.cause, FinishCause::kStopToken);
  EXPECT_EQ(static_cast<std::ptrdiff_t>(stopped.tokens.size()), first + 1);
  Ask longer = GpuPrompt(model(), 20, 1900);
  const std::uint32_t epoch = runner.Start(longer);
  runner.UntilTokens(epoch, 5);
  EXPECT_TRUE(runner.executor().Submit(Cancel{runner.LaneOf(epoch), epoch}).ok());
  EXPECT_EQ(runner.Finish(epoch).cause, FinishCause::kCancelled);
}

TEST_P(CudaExecutorTest, StopDuringAStepEndsEverything) {
  Runner runner = NewCudaRunner(model(), SmallGpu());
  const std::uint32_t epoch = runner.Start(GpuPrompt(model(), 20, 1900));
  runner.UntilTokens(epoch, 5);
  const absl::Time sent = absl::Now();
  ASSERT_TRUE(runner.executor().Submit(Stop{}).ok());
  while (!runner.stopped() && absl::Now() - sent < absl::Seconds(2)) runner.Pump();
  EXPECT_TRUE(runner.stopped());
  std::printf("fault stop_in_a_step %.3f: every lane cancelled\n", absl::ToDoubleSeconds(absl::Now() - sent));
  EXPECT_EQ(runner.outcome(epoch).cause, FinishCause::kCancelled);
  EXPECT_TRUE(runner.executor().Health().ok()) << runner.executor().Health();
}

TEST_P(CudaExecutorTest, AFullEventRingStopsTheKernelAndLosesNothing) {
  Runner runner = NewCudaRunner(model(), SmallGpu());
  std::vector<std::uint32_t> epochs;
  std::vector<Ask> asks;
  for (int lane = 0; lane < 8; ++lane) {
    asks.push_back(GpuPrompt(model(), 3 + lane, 1500, static_cast<std::uint32_t>(lane)));
    epochs.push_back(runner.Start(asks.back()));
  }
  absl::SleepFor(absl::Seconds(1));  // the kernel would write 12,000 tokens in a fraction of that
  EXPECT_TRUE(runner.executor().Health().ok()) << runner.executor().Health();
  const absl::Time read = absl::Now();
  for (const std::uint32_t epoch : epochs) EXPECT_EQ(runner.Finish(epoch).tokens.size(), 1500u);
  std::printf("fault full_event_ring %.3f: no token is lost\n", absl::ToDoubleSeconds(absl::Now() - read));
  EXPECT_EQ(runner.outcome(epochs[3]).tokens, runner.Run(asks[3]).tokens);
}

// A trained model's file: the GPU's greedy text is the CPU executor's, but where two tokens are as near as rounding.
TEST(CudaExecutorModelTest, RealWeightsGiveTheCpusText) {
  SKIP_WITHOUT_GPU();
  const char* path = std::getenv("MEGAKERNEL_TEST_MODEL");
  if (path == nullptr || !std::filesystem::exists(path)) GTEST_SKIP() << "MEGAKERNEL_TEST_MODEL names no file";
  auto model = LoadModel(path);
  ASSERT_TRUE(model.ok()) << model.status();
  CpuOptions cpu;
  cpu.max_context = 512;
  Runner on_cpu = NewRunner(**model, cpu);
  Runner on_gpu = NewCudaRunner(**model, SmallGpu());
  int equal = 0;
  const char* const kTexts[] = {"The capital of France is", "Once upon a time, there was a small",
                                "def fibonacci(n):", "Water boils at a temperature of",
                                "The three primary colours are"};
  for (const char* text : kTexts) {
    Ask ask;
    ask.tokens = (*model)->tokenizer().Encode(text, false);
    ask.max_tokens = 128;
    ask.sampling.logprobs = -1;
    const std::vector<TokenId> tokens = on_gpu.Run(ask).tokens;
    EXPECT_EQ(WrongChoices(**model, ask, tokens), 0) << text;
    equal += tokens == on_cpu.Run(ask).tokens ? 1 : 0;
  }
  std::printf("real weights: %d of 5 texts equal the CPU's over 128 tokens\n", equal);
}

// 8 rows in 125,000 steps and more: no hang, and the last sequence is still the first one's equal.
TEST(CudaExecutorLongTest, AMillionTokens) {
  SKIP_WITHOUT_GPU();
  const Model& model = PresetModel("qwen3-tiny");
  Runner runner = NewCudaRunner(model, SmallGpu());
  const Ask ask = GpuPrompt(model, 9, 1900);
  std::vector<std::vector<PageId>> pages;
  for (int lane = 0; lane < 8; ++lane) pages.push_back(runner.Pages(2000));
  std::vector<TokenId> expected;
  std::int64_t tokens = 0;
  while (tokens < 1000000) {
    std::vector<std::uint32_t> epochs;
    for (int lane = 0; lane < 8; ++lane) {
      Ask mine = ask;
      mine.pages = pages[lane];
      epochs.push_back(runner.Start(mine));
    }
    for (const std::uint32_t epoch : epochs) {
      const Outcome& outcome = runner.Finish(epoch);
      if (expected.empty()) expected = outcome.tokens;
      ASSERT_EQ(outcome.tokens, expected) << "after " << tokens << " tokens";
      tokens += static_cast<std::int64_t>(outcome.tokens.size());
    }
  }
}

}  // namespace
}  // namespace megakernel::test
