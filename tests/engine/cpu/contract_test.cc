// The contract of executor.h on the CPU executor.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "absl/strings/str_cat.h"
#include "engine/cpu/processor_count.h"
#include "tests/engine/cpu/runner.h"
#include "tests/engine/cpu/synthetic_model.h"

namespace megakernel::test {
namespace {

constexpr std::int32_t kVocab = 250;

const SyntheticModel& TestModel() {
  static const SyntheticModel* model = new SyntheticModel(SyntheticOptions{});
  return *model;
}

CpuOptions Options() {
  CpuOptions options;
  options.threads = 2;
  options.page_tokens = 4;
  options.num_pages = 1000;
  options.max_lanes = 8;
  options.max_rows = 16;
  options.poison = true;
  return options;
}

Ask Prompt(int length, int max_tokens = 8) {
  Ask ask;
  ask.tokens = RandomTokens(length, kVocab, static_cast<std::uint32_t>(length));
  ask.max_tokens = max_tokens;
  return ask;
}

TEST(ContractTest, InfoTellsWhatItIs) {
  Runner runner = NewRunner(TestModel(), Options());
  const ExecutorInfo& info = runner.executor().info();
  EXPECT_EQ(info.max_lanes, 8);
  EXPECT_EQ(info.max_rows, 16);
  EXPECT_EQ(info.max_context, 512);
  EXPECT_EQ(info.vocab, kVocab);
  EXPECT_EQ(info.page_tokens, 4);
  EXPECT_EQ(info.num_pages, 1000);
  EXPECT_EQ(info.page_bytes, 2 * 2 * 2 * 32 * 4 * 2);  // layers, K and V, kv heads, head_dim, tokens, fp16
  EXPECT_EQ(info.kv_type, "fp16");
  for (int f = 0; f < static_cast<int>(Feature::kNumFeatures); ++f) EXPECT_TRUE(info.Has(static_cast<Feature>(f)));
}

TEST(ContractTest, LengthEndsASequence) {
  Runner runner = NewRunner(TestModel(), Options());
  const Outcome outcome = runner.Run(Prompt(21, 8));
  EXPECT_EQ(outcome.started, 1);
  EXPECT_EQ(outcome.cause, FinishCause::kLength);
  EXPECT_EQ(outcome.tokens.size(), 8u);
  EXPECT_EQ(outcome.kv_length, 28);  // the last token's key is not written
  for (int i = 0; i < 8; ++i) EXPECT_EQ(outcome.positions[i], 21 + i);
}

TEST(ContractTest, StopTokenEndsASequenceAfterItsEvent) {
  Runner runner = NewRunner(TestModel(), Options());
  const Outcome free = runner.Run(Prompt(21, 12));
  Ask ask = Prompt(21, 12);
  ask.sampling.stop_tokens = {free.tokens[4]};
  const Outcome stopped = runner.Run(ask);
  const auto first = std::find(free.tokens.begin(), free.tokens.end(), free.tokens[4]) - free.tokens.begin();
  EXPECT_EQ(stopped.cause, FinishCause::kStopToken);
  EXPECT_EQ(static_cast<std::ptrdiff_t>(stopped.tokens.size()), first + 1);
  EXPECT_EQ(stopped.tokens.back(), free.tokens[4]);
  EXPECT_EQ(stopped.kv_length, 21 + first);

  ask.sampling.min_tokens = 9;
  const Outcome later = runner.Run(ask);
  EXPECT_GE(later.tokens.size(), 10u);
}

TEST(ContractTest, MinTokensCountFromOutputStart) {
  Runner runner = NewRunner(TestModel(), Options());
  Ask ask = Prompt(10, 10);
  ask.sampling.stop_tokens = RandomTokens(200, kVocab, 3);  // most of the vocabulary
  ask.sampling.min_tokens = 5;
  EXPECT_GE(runner.Run(ask).tokens.size(), 6u);
}

TEST(ContractTest, PrefillOnlyLeavesTheLastToken) {
  Runner runner = NewRunner(TestModel(), Options());
  const Outcome whole = runner.Run(Prompt(50));
  Ask ask = Prompt(50);
  ask.prefill_only = true;
  ask.pages = runner.Pages(58);
  const Outcome prefilled = runner.Run(ask);
  EXPECT_EQ(prefilled.cause, FinishCause::kPrefilled);
  EXPECT_EQ(prefilled.kv_length, 49);
  EXPECT_TRUE(prefilled.tokens.empty());
  ask.prefill_only = false;
  ask.kv_length = 49;
  EXPECT_TRUE(SameText(runner.Run(ask), whole));
  // Nothing left to write.
  ask.prefill_only = true;
  const Outcome nothing = runner.Run(ask);
  EXPECT_EQ(nothing.cause, FinishCause::kPrefilled);
  EXPECT_EQ(nothing.started, 0);
}

TEST(ContractTest, CancelWhileReadingThePromptAndWhileDecoding) {
  CpuOptions options = Options();
  options.max_rows = 1;  // a prompt takes many steps
  Runner runner = NewRunner(TestModel(), options);
  const std::uint32_t reading = runner.Start(Prompt(400, 2));
  while (runner.outcome(reading).started == 0) runner.Pump();
  ASSERT_TRUE(runner.executor().Submit(Cancel{runner.LaneOf(reading), reading}).ok());
  const Outcome& cancelled = runner.Finish(reading);
  EXPECT_EQ(cancelled.cause, FinishCause::kCancelled);
  EXPECT_LT(cancelled.kv_length, 400);
  EXPECT_TRUE(cancelled.tokens.empty());

  const std::uint32_t decoding = runner.Start(Prompt(3, 450));
  runner.UntilTokens(decoding, 3);
  ASSERT_TRUE(runner.executor().Submit(Cancel{runner.LaneOf(decoding), decoding}).ok());
  const Outcome& ended = runner.Finish(decoding);
  EXPECT_EQ(ended.cause, FinishCause::kCancelled);
  EXPECT_LT(ended.tokens.size(), 450u);
  EXPECT_EQ(ended.kv_length, 3 + static_cast<std::int32_t>(ended.tokens.size()) - 1);
}

TEST(ContractTest, StaleCancelAndGrantAreIgnored) {
  Runner runner = NewRunner(TestModel(), Options());
  const Outcome first = runner.Run(Prompt(21, 8));
  const std::uint32_t second = runner.Start(Prompt(21, 8));  // the same lane
  ASSERT_TRUE(runner.executor().Submit(Cancel{0, second - 1}).ok());
  ASSERT_TRUE(runner.executor().Submit(GrantPages{0, second - 1, {999}}).ok());
  EXPECT_TRUE(SameText(runner.Finish(second), first));
  // After the end: neither harms nor answers.
  ASSERT_TRUE(runner.executor().Submit(Cancel{0, second}).ok());
  ASSERT_TRUE(runner.executor().Submit(GrantPages{0, second, {999}}).ok());
  EXPECT_TRUE(SameText(runner.Run(Prompt(21, 8)), first));
}

TEST(ContractTest, ALaneWaitsForPages) {
  Runner runner = NewRunner(TestModel(), Options());
  const Outcome whole = runner.Run(Prompt(30, 10));
  const std::vector<PageId> pages = runner.Pages(40);
  Ask ask = Prompt(30, 10);
  ask.pages = {pages[0], pages[1]};
  const std::uint32_t epoch = runner.Start(ask);
  for (std::size_t next = 2; next < pages.size(); ++next) {
    // Eight rows fill two pages; what cannot be written yet gives nothing.
    for (int i = 0; i < 2; ++i) runner.Pump();
    const auto tokens = static_cast<std::int32_t>(runner.outcome(epoch).tokens.size());
    EXPECT_LE(tokens, std::max(0, static_cast<std::int32_t>(next) * 4 - 30 + 1));
    EXPECT_FALSE(runner.outcome(epoch).finished);
    ASSERT_TRUE(runner.executor().Submit(GrantPages{runner.LaneOf(epoch), epoch, {pages[next]}}).ok());
  }
  EXPECT_TRUE(SameText(runner.Finish(epoch), whole));
}

TEST(ContractTest, UnwrittenPositionsArePoison) {
  // A caller that lies about kv_length reads NaN: the executor fails and says so, and answers every command's lane.
  Runner runner = NewRunner(TestModel(), Options());
  Ask ask = Prompt(30, 10);
  ask.pages = runner.Pages(40);
  ask.prefill_only = true;
  runner.Run(ask);
  ask.prefill_only = false;
  ask.pages[3] = runner.Pages(4)[0];
  // A page of poison inside the claimed prefix: grant it to a sequence first, then claim it.
  Ask toucher = Prompt(2, 1);
  toucher.pages = {ask.pages[3]};
  runner.Run(toucher);
  ask.kv_length = 29;
  const std::uint32_t other = runner.Start(Prompt(400, 20));
  const Outcome& outcome = runner.Finish(runner.Start(ask));
  EXPECT_EQ(outcome.cause, FinishCause::kFailed);
  EXPECT_EQ(runner.Finish(other).cause, FinishCause::kFailed);
  const absl::Status health = runner.executor().Health();
  EXPECT_EQ(health.code(), absl::StatusCode::kInternal);
  EXPECT_NE(std::string(health.message()).find("not finite"), std::string::npos);
  Admit admit;
  admit.tokens = {1};
  admit.token_limit = 2;
  EXPECT_EQ(runner.executor().Submit(admit).code(), absl::StatusCode::kUnavailable);
}

TEST(ContractTest, StopEndsEverything) {
  Runner runner = NewRunner(TestModel(), Options());
  const std::uint32_t a = runner.Start(Prompt(10, 400));
  const std::uint32_t b = runner.Start(Prompt(300, 100));
  runner.UntilTokens(a, 2);
  ASSERT_TRUE(runner.executor().Submit(Stop{}).ok());
  EXPECT_EQ(runner.Finish(a).cause, FinishCause::kCancelled);
  EXPECT_EQ(runner.Finish(b).cause, FinishCause::kCancelled);
  for (int i = 0; i < 50 && !runner.stopped(); ++i) runner.Pump();
  EXPECT_TRUE(runner.stopped());
  EXPECT_EQ(runner.executor().Submit(Park{}).code(), absl::StatusCode::kUnavailable);
}

TEST(ContractTest, HeartbeatRisesWithWorkAndRestsWithout) {
  Runner runner = NewRunner(TestModel(), Options());
  const std::uint64_t before = runner.executor().Heartbeat();
  runner.Run(Prompt(5, 4));
  const std::uint64_t after = runner.executor().Heartbeat();
  EXPECT_GE(after, before + 4 * 2);  // a layer each
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(runner.executor().Heartbeat(), after);
}

// A watchdog must not need to know how long a step takes.
TEST(ContractTest, HeartbeatMovesInsideALongStep) {
  SyntheticOptions wide;
  wide.num_layers = 3;
  wide.hidden = 256;
  wide.ffn = 768;
  const SyntheticModel model(wide);
  CpuOptions options = Options();
  options.isa = CpuIsa::kPlain;
  options.precision = CpuPrecision::kFp32;
  options.max_rows = 128;
  options.poison = false;
  Runner runner = NewRunner(model, options);
  Executor& executor = runner.executor();
  using Clock = std::chrono::steady_clock;
  Clock::duration longest{};
  std::atomic<bool> done{false};
  std::thread watch([&] {
    std::uint64_t last = executor.Heartbeat();
    while (executor.Heartbeat() == last) std::this_thread::yield();  // the step begins
    Clock::time_point moved = Clock::now();
    while (!done.load()) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      const std::uint64_t now = executor.Heartbeat();
      if (now == last) continue;
      longest = std::max(longest, Clock::now() - moved);
      moved = Clock::now();
      last = now;
    }
  });
  const Clock::time_point start = Clock::now();
  const Outcome outcome = runner.Run(Prompt(128, 1));  // all rows in one step
  const Clock::duration step = Clock::now() - start;
  done = true;
  watch.join();
  EXPECT_EQ(outcome.cause, FinishCause::kLength);
  const auto ms = [](Clock::duration time) { return std::chrono::duration<double, std::milli>(time).count(); };
  RecordProperty("step_ms", static_cast<int>(ms(step)));
  EXPECT_LT(ms(longest), ms(step) / 4) << "a step of " << ms(step) << " ms";
  EXPECT_GT(executor.Heartbeat(), 100u);
}

TEST(ContractTest, ParkedExecutorWakes) {
  Runner runner = NewRunner(TestModel(), Options());
  ASSERT_TRUE(runner.executor().Submit(Park{}).ok());
  EXPECT_EQ(runner.Run(Prompt(5, 4)).tokens.size(), 4u);
}

TEST(ContractTest, NotifyEndsAWait) {
  Runner runner = NewRunner(TestModel(), Options());
  runner.executor().Notify();
  runner.executor().Wait(absl::Seconds(100));  // returns at once: Notify came before
  std::thread other([&] { runner.executor().Notify(); });
  runner.executor().Wait(absl::Seconds(100));
  other.join();
}

TEST(ContractTest, PromptLogprobsOfEveryTokenButTheFirst) {
  for (std::int32_t rows : {3, 16}) {
    CpuOptions options = Options();
    options.max_rows = rows;
    Runner runner = NewRunner(TestModel(), options);
    Ask ask = Prompt(40, 6);
    ask.sampling.prompt_logprobs = 2;
    const Outcome outcome = runner.Run(ask);
    ASSERT_EQ(outcome.prompt.size(), 39u);
    // The text that follows, fed as a prompt, has the logprobs that it was sampled with.
    Ask longer = ask;
    longer.tokens.insert(longer.tokens.end(), outcome.tokens.begin(), outcome.tokens.end());
    const Outcome again = runner.Run(longer);
    ASSERT_EQ(again.prompt.size(), 45u);
    for (int i = 0; i < 45; ++i) {
      EXPECT_EQ(again.prompt_at[i], i + 1);
      EXPECT_EQ(again.prompt[i].token, longer.tokens[i + 1]);
      EXPECT_EQ(again.prompt[i].logprob, i < 39 ? outcome.prompt[i].logprob : outcome.logprobs[i - 39]);
    }
  }
}

TEST(ContractTest, CommandsThatBreakTheContractAreNamed) {
  Runner runner = NewRunner(TestModel(), Options());
  Executor& executor = runner.executor();
  const auto admit = [](auto change) {
    Admit command;
    command.epoch = 12345;
    command.tokens = {1, 2, 3};
    command.token_limit = 10;
    command.pages = {0, 1, 2};
    change(command);
    return Command(command);
  };
  const std::vector<std::pair<Command, const char*>> bad = {
      {admit([](Admit& a) { a.lane = 8; }), "lane is 8"},
      {admit([](Admit& a) { a.lane = -1; }), "lane is -1"},
      {admit([](Admit& a) { a.tokens = {}; }), "number of tokens is 0"},
      {admit([](Admit& a) { a.token_limit = 3; }), "number of tokens is 3"},
      {admit([](Admit& a) { a.token_limit = 513; }), "token_limit is 513"},
      {admit([](Admit& a) {
         a.tokens = {1, kVocab};
       }),
       "token is 250"},
      {admit([](Admit& a) { a.tokens = {-1}; }), "token is -1"},
      {admit([](Admit& a) { a.kv_length = 3; }), "kv_length is 3"},
      {admit([](Admit& a) {
         a.kv_length = 2;
         a.pages = {};
       }),
       "kv_length is 2"},
      {admit([](Admit& a) { a.output_start = 4; }), "output_start is 4"},
      {admit([](Admit& a) {
         a.pages = {0, 1000};
       }),
       "page is 1000"},
      {admit([](Admit& a) { a.sampling.stop_tokens = {250}; }), "stop token is 250"},
      {admit([](Admit& a) { a.sampling.allowed_tokens = {-2}; }), "allowed token is -2"},
      {admit([](Admit& a) {
         a.sampling.logit_bias = {{251, 1.0f}};
       }),
       "logit_bias token is 251"},
      {GrantPages{0, 1, {-1}}, "page is -1"},
      {GrantPages{9, 1, {}}, "lane is 9"},
      {Cancel{100, 1}, "lane is 100"},
      {CopyPage{0, 1000}, "page is 1000"},
      {CopyPage{-1, 0}, "page is -1"},
      {ReadPages{1, {1000}}, "page is 1000"},
      {WritePages{{-1}, {}}, "page is -1"},
      {WritePages{{0}, {}}, "number of page bytes is 0"},
      {SetPolicy{{0, 1, 1}}, "policy.max_rows is 0"},
  };
  for (const auto& [command, message] : bad) {
    const absl::Status status = executor.Submit(command);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_NE(std::string(status.message()).find(message), std::string::npos) << status << " lacks " << message;
  }
  const std::uint32_t epoch = runner.Start(Prompt(10, 100));
  const absl::Status busy = executor.Submit(admit([](Admit&) {}));
  EXPECT_NE(std::string(busy.message()).find("lane 0 still holds"), std::string::npos) << busy;
  runner.Finish(epoch);
}

TEST(ContractTest, BadOptionsAreNamed) {
  const std::vector<std::pair<void (*)(CpuOptions&), const char*>> bad = {
      {[](CpuOptions& o) { o.threads = 257; }, "threads is 257"},
      {[](CpuOptions& o) { o.max_lanes = 129; }, "max_lanes is 129"},
      {[](CpuOptions& o) { o.max_rows = 0; }, "max_rows is 0"},
      {[](CpuOptions& o) { o.max_context = 513; }, "max_context is 513"},
      {[](CpuOptions& o) { o.page_tokens = 0; }, "page_tokens is 0"},
      {[](CpuOptions& o) { o.num_pages = -1; }, "num_pages is -1"},
      {[](CpuOptions& o) {
         o.num_pages = 0;
         o.kv_bytes = 100;
       },
       "kv_bytes is 100"},
  };
  for (const auto& [change, message] : bad) {
    CpuOptions options = Options();
    change(options);
    const auto executor = NewCpuExecutor(TestModel(), options);
    ASSERT_FALSE(executor.ok()) << message;
    EXPECT_NE(std::string(executor.status().message()).find(message), std::string::npos) << executor.status();
  }
}

TEST(ContractTest, DamagedModelsAreRefused) {
  SyntheticModel model(SyntheticOptions{});
  model.mutable_weights().layers[1].w_down.cols -= 32;
  const auto executor = NewCpuExecutor(model, Options());
  ASSERT_FALSE(executor.ok());
  EXPECT_NE(std::string(executor.status().message()).find("w_down"), std::string::npos) << executor.status();

  SyntheticOptions odd;
  odd.head_dim = 48;
  const auto unfit = NewCpuExecutor(SyntheticModel(odd), Options());
  ASSERT_FALSE(unfit.ok());
  EXPECT_NE(std::string(unfit.status().message()).find("head_dim is 48"), std::string::npos) << unfit.status();
}

TEST(ContractTest, InstructionSetsByName) {
  EXPECT_EQ(*ParseCpuIsa("avx2"), CpuIsa::kAvx2);
  EXPECT_EQ(*ParseCpuIsa("auto"), CpuIsa::kAuto);
  EXPECT_NE(std::string(ParseCpuIsa("sse").status().message()).find("\"sse\""), std::string::npos);
  if (!cpu::IsaWorks(CpuIsa::kAvx512)) {
    EXPECT_EQ(cpu::KernelsFor(CpuIsa::kAvx512).status().code(), absl::StatusCode::kFailedPrecondition);
  }
}

}  // namespace
}  // namespace megakernel::test
