// One generation from request to Finished: tokens, text, ends of every kind, prefixes, alternatives.
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "engine/text/tokenizer.h"
#include "tests/engine/core/engine_fixture.h"

namespace megakernel::testing {
namespace {

const std::vector<TokenId> kPrompt = Range(10, 11);

TEST(GenerationTest, GivesTheTokensOfTheSequenceAndTheirText) {
  TestEngine engine;
  auto reader = engine.Read(TestEngine::Request(kPrompt, 30));
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_EQ(reader->tokens(), engine.Expected(kPrompt, 30));
  EXPECT_EQ(reader->text(), engine->model().tokenizer().Decode(reader->tokens(), true));
  EXPECT_EQ(reader->finished().reason, FinishReason::kLength);
  EXPECT_TRUE(reader->finished().status.ok());
  EXPECT_EQ(reader->finished().usage.prompt_tokens, 11);
  EXPECT_EQ(reader->finished().usage.output_tokens, 30);
  EXPECT_EQ(reader->finished().session_length, 41);
  EXPECT_EQ(engine.Idle().pages_used, 0);
}

TEST(GenerationTest, EqualPrefixesAreComputedOnce) {
  TestEngine engine;
  for (const int cached : {0, 8}) {  // two full pages of 4; the third holds the last token
    auto reader = engine.Read(TestEngine::Request(kPrompt, 3));
    ASSERT_TRUE(reader->WaitDone());
    EXPECT_EQ(reader->finished().usage.cached_tokens, cached);
    EXPECT_EQ(reader->tokens(), engine.Expected(kPrompt, 3));
  }
  GenerateRequest other = TestEngine::Request(kPrompt, 3);
  other.tenant = "other";
  auto reader = engine.Read(other);
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_EQ(reader->finished().usage.cached_tokens, 0) << "tenants share nothing";
}

TEST(GenerationTest, AStopTokenIsTheLastOfTheOutput) {
  TestEngine engine;
  const std::vector<TokenId> all = engine.Expected(kPrompt, 30);
  GenerateRequest request = TestEngine::Request(kPrompt, 30);
  request.sampling.stop_tokens = {all[7]};
  auto reader = engine.Read(request);
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_EQ(reader->finished().reason, FinishReason::kStopToken);
  EXPECT_EQ(reader->finished().stop_token, all[7]);
  EXPECT_EQ(reader->tokens(), engine.Expected(kPrompt, 30, request.sampling));
}

TEST(GenerationTest, AStopStringCutsTextAndSessionAtTheTokenThatCompletesIt) {
  TestEngine engine;
  const std::string session = engine.Create()->id;
  const std::vector<TokenId> all = engine.Expected(kPrompt, 40);
  const Tokenizer& tokenizer = engine->model().tokenizer();
  const std::string stop(tokenizer.TokenBytes(all[9], true));
  GenerateRequest request = TestEngine::Request(kPrompt, 40, session);
  request.stop_strings = {stop};
  auto reader = engine.Read(request);
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_EQ(reader->finished().reason, FinishReason::kStopString);
  EXPECT_EQ(reader->finished().matched_stop, stop);
  EXPECT_EQ(reader->text().find(stop), std::string::npos);
  const std::size_t count = reader->tokens().size();
  ASSERT_LE(count, 10u);
  EXPECT_EQ(reader->tokens(), std::vector<TokenId>(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count)));
  EXPECT_EQ(engine.Get(session)->tokens, Concat(kPrompt, reader->tokens()));
  // It goes on where it was cut.
  auto rest = engine.Read(TestEngine::Request({}, 40 - static_cast<int>(count), session));
  ASSERT_TRUE(rest->WaitDone());
  EXPECT_EQ(Concat(reader->tokens(), rest->tokens()), all);
}

TEST(GenerationTest, ADeadlineEndsWhatRunsAndWhatWaits) {
  EngineSetup setup;
  setup.fake_clock = true;
  setup.fake.max_lanes = 1;
  setup.fake.step_time = absl::Milliseconds(1);
  TestEngine engine(setup);
  GenerateRequest request = TestEngine::Request(kPrompt, 400);
  request.deadline = FakeClock().Now() + absl::Seconds(5);
  auto running = engine.Read(request);
  auto waiting = engine.Read(request);
  ASSERT_TRUE(running->WaitTokens(0, 3));
  engine.Advance(absl::Seconds(6));
  ASSERT_TRUE(running->WaitDone() && waiting->WaitDone());
  for (const Reader* reader : {running.get(), waiting.get()}) {
    EXPECT_EQ(ReasonOf(reader->finished().status), ErrorReason::kDeadlineExceeded);
    EXPECT_EQ(reader->finished().reason, FinishReason::kCancelled);
  }
  EXPECT_FALSE(waiting->started().has_value());
  EXPECT_EQ(engine.Idle().pages_used, 0);
}

TEST(GenerationTest, AReaderThatDoesNotReadLosesTheGenerationAndNothingElse) {
  EngineSetup setup;
  setup.engine.stream_buffer = 5;
  TestEngine engine(setup);
  const std::string session = engine.Create()->id;
  auto stream = engine->Generate(TestEngine::Request(kPrompt, 100, session));
  ASSERT_TRUE(stream.ok());
  engine.Idle();
  StreamUpdate update;
  ASSERT_TRUE((*stream)->Pop(update));
  EXPECT_TRUE(update.done);
  const Finished& finished = *update.choices[0].finished;
  EXPECT_EQ(ReasonOf(finished.status), ErrorReason::kSlowConsumer);
  EXPECT_EQ(update.choices[0].tokens, engine.Expected(kPrompt, 5));
  EXPECT_EQ(finished.session_length, 16);
  EXPECT_EQ(engine.Get(session)->length, 16);
  StreamUpdate none;
  EXPECT_FALSE((*stream)->Pop(none));
}

TEST(GenerationTest, AlternativesForkFromOnePrompt) {
  EngineSetup setup;
  setup.fake.max_lanes = 2;  // they do not even run together
  TestEngine engine(setup);
  GenerateRequest request = TestEngine::Request(kPrompt, 20);
  request.n = 3;
  request.sampling.temperature = 1;
  request.sampling.seed = 7;
  auto reader = engine.Read(request);
  ASSERT_TRUE(reader->WaitDone());
  for (int i = 0; i < 3; ++i) {
    SamplingParams sampling = request.sampling;
    sampling.seed += i;
    EXPECT_EQ(reader->tokens(i), engine.Expected(kPrompt, 20, sampling));
  }
  EXPECT_NE(reader->tokens(0), reader->tokens(1));
  EXPECT_EQ(engine.Idle().pages_used, 0);
}

TEST(GenerationTest, PreemptionRepeatsNothingAndChangesNothing) {
  EngineSetup setup;
  setup.fake.num_pages = 24;  // 96 positions for four sequences of up to 60
  setup.fake.max_context = 64;
  setup.fake.step_time = absl::Milliseconds(1);  // else one is done before the next has arrived
  TestEngine engine(setup);
  std::vector<std::unique_ptr<Reader>> readers;
  for (int i = 0; i < 8; ++i) readers.push_back(engine.Read(TestEngine::Request(Range(10 + i, 10), 50)));
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(readers[i]->WaitDone());
    EXPECT_TRUE(readers[i]->finished().status.ok()) << readers[i]->finished().status;
    EXPECT_EQ(readers[i]->tokens(), engine.Expected(Range(10 + i, 10), 50));
  }
  const EngineStats stats = engine.Idle();
  EXPECT_GT(stats.preemptions, 0);
  EXPECT_EQ(stats.pages_used, 0);
  EXPECT_EQ(stats.output_tokens, 8 * 50);
}

TEST(GenerationTest, LogprobsAndPromptLogprobsAreThoseOfTheSequenceAlone) {
  for (const bool again : {false, true}) {             // the second time the prefix is cached, and still computed
    static TestEngine* const engine = new TestEngine;  // NOLINT: shared by the two rounds, deleted in the second
    GenerateRequest request = TestEngine::Request(kPrompt, 4);
    request.sampling.logprobs = 2;
    request.sampling.prompt_logprobs = 1;
    auto reader = engine->Read(request);
    ASSERT_TRUE(reader->WaitDone());
    ASSERT_EQ(reader->prompt_logprobs().size(), kPrompt.size() - 1);
    std::uint64_t prefix = 0;
    for (std::size_t i = 0; i + 1 < kPrompt.size(); ++i) {
      prefix = FakeHash(prefix, kPrompt[i]);
      EXPECT_EQ(reader->prompt_logprobs()[i].position, static_cast<int>(i) + 1);
      EXPECT_EQ(reader->prompt_logprobs()[i].logprobs.chosen.logprob,
                FakeLogprobs(engine->fake_options(), prefix, kPrompt[i + 1], 1)->chosen.logprob);
    }
    ASSERT_EQ(reader->logprobs().size(), 4u);
    EXPECT_EQ(reader->logprobs()[0].top.size(), 2u);
    reader.reset();
    if (again) delete engine;
  }
}

TEST(GenerationTest, RefusesAtOnceAndByName) {
  EngineSetup setup;
  setup.engine.max_queue = 2;
  setup.fake.manual = true;
  TestEngine engine(setup);
  const auto refused = [&](const std::function<void(GenerateRequest&)>& change) {
    GenerateRequest request = TestEngine::Request(kPrompt, 10);
    change(request);
    const auto stream = engine->Generate(request);
    return stream.ok()
               ? std::string("accepted")
               : absl::StrCat(std::string(ReasonName(ReasonOf(stream.status()))), " ", FieldOf(stream.status()));
  };
  EXPECT_EQ(refused([](auto& r) { r.sampling.top_p = 0; }), "INVALID_FIELD sampling.top_p");
  EXPECT_EQ(refused([](auto& r) { r.sampling.top_p = 0.5; }), "UNSUPPORTED sampling.top_p");
  EXPECT_EQ(refused([](auto& r) { r.sampling.temperature = NAN; }), "INVALID_FIELD sampling.temperature");
  EXPECT_EQ(refused([](auto& r) { r.tokens = {512}; }), "INVALID_FIELD prompt");
  EXPECT_EQ(refused([](auto& r) { r.max_tokens = 502; }), "CONTEXT_EXCEEDED stopping.max_tokens");
  EXPECT_EQ(refused([](auto& r) { r.tokens.clear(); }), "INVALID_FIELD prompt");
  EXPECT_EQ(refused([](auto& r) { r.n = 0; }), "INVALID_FIELD num_sequences");
  auto first = engine.Read(TestEngine::Request(kPrompt, 1));
  auto second = engine.Read(TestEngine::Request(kPrompt, 1));
  EXPECT_EQ(refused([](auto&) {}), "QUEUE_FULL ");
  for (int i = 0; i < 1000 && engine->Stats().requests_waiting > 0; ++i) {
    engine.fake().Step();
    engine->Wake();
    (void)engine.List(1, "");
  }
  while (engine.fake().Step()) {
  }
  EXPECT_TRUE(first->WaitDone() && second->WaitDone());
}

TEST(GenerationTest, DrainFinishesWhatRunsAndRefusesWhatComes) {
  EngineSetup setup;
  setup.fake.step_time = absl::Milliseconds(1);
  TestEngine engine(setup);
  auto reader = engine.Read(TestEngine::Request(kPrompt, 20));
  engine->Drain();
  EXPECT_EQ(ReasonOf(engine->Generate(TestEngine::Request(kPrompt, 1)).status()), ErrorReason::kDraining);
  EXPECT_TRUE(engine->WaitIdle(absl::Seconds(20)));
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_EQ(reader->tokens(), engine.Expected(kPrompt, 20));
}

TEST(GenerationTest, ShutdownEndsWhatIsLeft) {
  EngineSetup setup;
  setup.fake.step_time = absl::Milliseconds(1);
  TestEngine engine(setup);
  auto reader = engine.Read(TestEngine::Request(kPrompt, 500));
  ASSERT_TRUE(reader->WaitTokens(0, 1));
  engine->Shutdown(absl::ZeroDuration());
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_EQ(ReasonOf(reader->finished().status), ErrorReason::kDraining);
}

}  // namespace
}  // namespace megakernel::testing
