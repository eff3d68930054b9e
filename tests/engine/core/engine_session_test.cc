// Sessions: lengths, guards, copy on write, expiry, listing, deletion under way.
#include <gtest/gtest.h>

#include "tests/engine/core/engine_fixture.h"

namespace megakernel::testing {
namespace {

const std::vector<TokenId> kPrompt = Range(10, 11);

std::string MakeSession(TestEngine& engine, int output) {
  const std::string id = engine.Create()->id;
  auto reader = engine.Read(TestEngine::Request(kPrompt, output, id));
  EXPECT_TRUE(reader->WaitDone());
  return id;
}

TEST(EngineSessionTest, LengthCountsTheLastTokenThoughItsKeyIsNotWritten) {
  TestEngine engine;
  const std::string id = MakeSession(engine, 6);
  const auto session = engine.Get(id);
  EXPECT_EQ(session->length, 17);
  EXPECT_EQ(session->kv_length, 16);
  EXPECT_EQ(session->tokens, Concat(kPrompt, engine.Expected(kPrompt, 6)));
}

TEST(EngineSessionTest, AppendingWritesAllButTheLastToken) {
  TestEngine engine;
  const std::string id = MakeSession(engine, 0);
  EXPECT_EQ(engine.Get(id)->length, 11);
  EXPECT_EQ(engine.Get(id)->kv_length, 10);
  auto reader = engine.Read(TestEngine::Request({}, 5, id));
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_EQ(reader->tokens(), engine.Expected(kPrompt, 5));
  EXPECT_EQ(reader->finished().usage.cached_tokens, 10);
}

TEST(EngineSessionTest, ARetryWithTheOldLengthIsRefused) {
  TestEngine engine;
  const std::string id = MakeSession(engine, 3);
  GenerateRequest retry = TestEngine::Request(kPrompt, 3, id);
  retry.expected_length = 0;
  auto reader = engine.Read(retry);
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_EQ(ReasonOf(reader->finished().status), ErrorReason::kLengthMismatch);
  EXPECT_FALSE(reader->started().has_value());
  EXPECT_EQ(engine.Get(id)->length, 14);
}

TEST(EngineSessionTest, ForkAndRollbackAtEveryLengthGoOnAsTheSequenceAlone) {
  for (const int page_tokens : {4, 64}) {
    EngineSetup setup;
    setup.fake.page_tokens = page_tokens;
    TestEngine engine(setup);
    const std::string id = MakeSession(engine, 9);
    const std::vector<TokenId> all = engine.Get(id)->tokens;
    for (int length = 20; length >= 1; --length) {
      const std::vector<TokenId> prefix(all.begin(), all.begin() + length);
      const std::string fork = engine.Fork(id, length)->id;
      auto of_fork = engine.Read(TestEngine::Request({5}, 6, fork));
      ASSERT_EQ(engine.Rollback(id, length)->length, length);
      auto of_parent = engine.Read(TestEngine::Request({6}, 6, id));
      ASSERT_TRUE(of_fork->WaitDone() && of_parent->WaitDone());
      EXPECT_EQ(of_fork->tokens(), engine.Expected(Concat(prefix, {5}), 6));
      EXPECT_EQ(of_parent->tokens(), engine.Expected(Concat(prefix, {6}), 6));
      ASSERT_TRUE(engine.Rollback(id, length).ok());
      ASSERT_TRUE(engine.Delete(fork).ok());
    }
    ASSERT_TRUE(engine.Delete(id).ok());
    EXPECT_EQ(engine.Idle().pages_used, 0);
  }
}

TEST(EngineSessionTest, ACancelLeavesTheSessionAtTheLastTokenHandedOver) {
  EngineSetup setup;
  setup.fake.step_time = absl::Microseconds(200);
  TestEngine engine(setup);
  const std::string id = engine.Create()->id;
  auto reader = engine.Read(TestEngine::Request(kPrompt, 400, id));
  ASSERT_TRUE(reader->WaitTokens(0, 5));
  reader->stream().Cancel();
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_EQ(ReasonOf(reader->finished().status), ErrorReason::kCancelled);
  const std::vector<TokenId> so_far = Concat(kPrompt, reader->tokens());
  EXPECT_EQ(reader->finished().session_length, static_cast<int>(so_far.size()));
  EXPECT_EQ(engine.Get(id)->tokens, so_far);
  auto rest = engine.Read(TestEngine::Request({}, 8, id));
  ASSERT_TRUE(rest->WaitDone());
  EXPECT_EQ(rest->tokens(), engine.Expected(so_far, 8));
}

TEST(EngineSessionTest, BusyIsToldApartAndDeletionEndsWhatRuns) {
  EngineSetup setup;
  setup.fake.step_time = absl::Milliseconds(1);
  TestEngine engine(setup);
  const std::string id = engine.Create()->id;
  auto reader = engine.Read(TestEngine::Request(kPrompt, 400, id));
  ASSERT_TRUE(reader->WaitTokens(0, 1));
  EXPECT_TRUE(engine.Get(id)->busy);
  EXPECT_EQ(ReasonOf(engine.Fork(id).status()), ErrorReason::kSessionBusy);
  EXPECT_EQ(ReasonOf(engine.Rollback(id, 1).status()), ErrorReason::kSessionBusy);
  auto second = engine.Read(TestEngine::Request(kPrompt, 1, id));
  ASSERT_TRUE(second->WaitDone());
  EXPECT_EQ(ReasonOf(second->finished().status), ErrorReason::kSessionBusy);
  EXPECT_TRUE(engine.Delete(id).ok());
  ASSERT_TRUE(reader->WaitDone());
  EXPECT_EQ(ReasonOf(reader->finished().status), ErrorReason::kSessionDeleted);
  EXPECT_EQ(ReasonOf(engine.Get(id).status()), ErrorReason::kSessionNotFound);
  EXPECT_EQ(engine.Idle().pages_used, 0);
}

TEST(EngineSessionTest, IdleSessionsExpireAndSaySo) {
  EngineSetup setup;
  setup.fake_clock = true;
  setup.engine.session_ttl = absl::Minutes(1);
  TestEngine engine(setup);
  const std::string id = MakeSession(engine, 2);
  const std::string longer = engine.Create(absl::Minutes(5))->id;
  engine.Advance(absl::Seconds(59));
  EXPECT_TRUE(engine.Get(id).ok());  // does not count as use
  engine.Advance(absl::Seconds(2));
  EXPECT_EQ(ReasonOf(engine.Get(id).status()), ErrorReason::kSessionExpired);
  EXPECT_EQ(ReasonOf(engine.Get(id, "other").status()), ErrorReason::kSessionNotFound);
  EXPECT_EQ(ReasonOf(engine.Get("0123").status()), ErrorReason::kSessionNotFound);
  EXPECT_TRUE(engine.Get(longer).ok());
  EXPECT_EQ(engine.Idle().pages_used, 0);
}

TEST(EngineSessionTest, ListsOldestFirstInPagesAndPerTenant) {
  EngineSetup setup;
  setup.engine.max_sessions = 5;
  TestEngine engine(setup);
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(engine.Create()->id);
  EXPECT_EQ(ReasonOf(engine.Create().status()), ErrorReason::kSessionLimit);
  EXPECT_EQ(ReasonOf(engine.Get(ids[0], "other").status()), ErrorReason::kSessionNotFound);
  std::vector<std::string> listed;
  std::string token;
  do {
    const auto page = engine.List(2, token);
    ASSERT_TRUE(page.ok());
    for (const SessionInfo& session : page->sessions) listed.push_back(session.id);
    token = page->next_page_token;
  } while (!token.empty());
  EXPECT_EQ(listed, ids);
  EXPECT_EQ(FieldOf(engine.List(2, "zzz").status()), "page_token");
}

TEST(EngineSessionTest, WhenPagesRunOutIdleSessionsGiveThemUpOrTheRequestFails) {
  for (const bool reclaim : {true, false}) {
    EngineSetup setup;
    setup.fake.num_pages = 8;
    setup.fake.max_context = 32;
    setup.engine.reclaim_idle_sessions = reclaim;
    TestEngine engine(setup);
    const std::string id = MakeSession(engine, 14);  // 24 positions: 6 of 8 pages
    auto reader = engine.Read(TestEngine::Request(Range(100, 10), 20));
    ASSERT_TRUE(reader->WaitDone());
    if (reclaim) {
      EXPECT_EQ(reader->tokens(), engine.Expected(Range(100, 10), 20));
      auto again = engine.Read(TestEngine::Request({}, 3, id));
      ASSERT_TRUE(again->WaitDone());
      EXPECT_EQ(again->tokens(), engine.Expected(Concat(kPrompt, engine.Expected(kPrompt, 14)), 3));
    } else {
      EXPECT_EQ(ReasonOf(reader->finished().status), ErrorReason::kKvExhausted);
    }
  }
}

}  // namespace
}  // namespace megakernel::testing
