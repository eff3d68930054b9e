// What a tenant may use: sessions, pages, places in the queue, tokens a second; and that tenants share nothing unasked.
#include <gtest/gtest.h>

#include <latch>

#include "tests/engine/core/engine_fixture.h"

namespace megakernel::testing {
namespace {

constexpr char kOther[] = "other";

// The default tenant has `limits`; others have none.
EngineSetup Limited(TenantQuotas& quotas, const TenantLimits& limits) {
  quotas.SetLimits({{kDefaultTenant, limits}});
  EngineSetup setup;
  setup.engine.quotas = &quotas;
  return setup;
}

GenerateRequest Of(const std::string& tenant, GenerateRequest request) {
  request.tenant = tenant;
  return request;
}

absl::StatusOr<SessionInfo> CreateFor(TestEngine& engine, const std::string& tenant) {
  absl::StatusOr<SessionInfo> created;
  std::latch done(1);
  engine->CreateSession(tenant, std::nullopt, [&](auto session) {
    created = std::move(session);
    done.count_down();
  });
  done.wait();
  return created;
}

void ExpectOverQuota(const absl::Status& status, absl::Duration retry_after) {
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(ReasonOf(status), ErrorReason::kQuotaExceeded);
  EXPECT_EQ(TenantOf(status), kDefaultTenant);
  EXPECT_EQ(RetryAfterOf(status), retry_after) << status;
}

TEST(QuotaTest, Sessions) {
  TenantQuotas quotas;
  TestEngine engine(Limited(quotas, {.sessions = 2}));
  const std::string first = engine.Create()->id;
  ASSERT_TRUE(engine.Create().ok());
  ExpectOverQuota(engine.Create().status(), absl::Seconds(5));
  ExpectOverQuota(engine.Fork(first).status(), absl::Seconds(5));
  EXPECT_TRUE(CreateFor(engine, kOther).ok());
  ASSERT_TRUE(engine.Delete(first).ok());
  EXPECT_TRUE(engine.Create().ok());
  quotas.SetLimits({});
  EXPECT_TRUE(engine.Create().ok());
}

TEST(QuotaTest, ExpiredSessionsDoNotCount) {
  TenantQuotas quotas;
  EngineSetup setup = Limited(quotas, {.sessions = 1});
  setup.fake_clock = true;
  TestEngine engine(setup);
  ASSERT_TRUE(engine.Create(absl::Seconds(5)).ok());
  ASSERT_FALSE(engine.Create().ok());
  engine.Advance(absl::Seconds(6));
  EXPECT_TRUE(engine.Create().ok());
}

// Pages of 4 tokens: 9 tokens of prompt and 8 more need pages for 16 positions.
TEST(QuotaTest, PagesAreCountedForTheWorst) {
  TenantQuotas quotas;
  EngineSetup setup = Limited(quotas, {.kv_pages = 4});
  setup.fake.page_tokens = 4;
  TestEngine engine(setup);
  auto fits = engine.Read(TestEngine::Request(Range(10, 9), 8));
  ASSERT_TRUE(fits->WaitDone());
  EXPECT_TRUE(fits->finished().status.ok()) << fits->finished().status;
  auto large = engine.Read(TestEngine::Request(Range(10, 9), 9));
  ASSERT_TRUE(large->WaitDone());
  ExpectOverQuota(large->finished().status, absl::InfiniteDuration());
  EXPECT_FALSE(large->started().has_value());
  auto other = engine.Read(Of(kOther, TestEngine::Request(Range(10, 9), 60)));
  ASSERT_TRUE(other->WaitDone());
  EXPECT_TRUE(other->finished().status.ok());
  GenerateRequest several = TestEngine::Request(Range(10, 4), 5);  // two pages each
  several.n = 3;
  auto three = engine.Read(several);
  ASSERT_TRUE(three->WaitDone());
  ExpectOverQuota(three->finished(2).status, absl::InfiniteDuration());
  EXPECT_EQ(engine.Idle().pages_used, 0);
}

TEST(QuotaTest, PagesOfWhatRunsComeFreeWhenItEnds) {
  TenantQuotas quotas;
  EngineSetup setup = Limited(quotas, {.kv_pages = 4});
  setup.fake.page_tokens = 4;
  setup.fake.step_time = absl::Milliseconds(1);
  TestEngine engine(setup);
  auto runs = engine.Read(TestEngine::Request(Range(10, 3), 9));  // 3 pages
  ASSERT_TRUE(runs->WaitTokens(0, 1));
  auto refused = engine.Read(TestEngine::Request(Range(10, 3), 4));  // 2
  ASSERT_TRUE(refused->WaitDone());
  ExpectOverQuota(refused->finished().status, absl::Seconds(1));
  auto fits = engine.Read(TestEngine::Request(Range(10, 2), 3));  // 1
  ASSERT_TRUE(fits->WaitDone() && runs->WaitDone());
  EXPECT_TRUE(fits->finished().status.ok() && runs->finished().status.ok());
  auto again = engine.Read(TestEngine::Request(Range(10, 3), 14));  // 4
  ASSERT_TRUE(again->WaitDone());
  EXPECT_TRUE(again->finished().status.ok()) << again->finished().status;
}

TEST(QuotaTest, IdleSessionsGiveTheirPagesUpAndKeepTheirTokens) {
  TenantQuotas quotas;
  EngineSetup setup = Limited(quotas, {.kv_pages = 4});
  setup.fake.page_tokens = 4;
  TestEngine engine(setup);
  const std::string id = engine.Create()->id;
  auto in_session = engine.Read(TestEngine::Request(Range(10, 9), 3, id));  // 3 pages
  ASSERT_TRUE(in_session->WaitDone());
  EXPECT_EQ(engine.Idle().pages_used, 3);
  ExpectOverQuota(engine.Fork(id).status(), absl::InfiniteDuration());
  auto beside = engine.Read(TestEngine::Request(Range(30, 9), 4));  // 3
  ASSERT_TRUE(beside->WaitDone());
  EXPECT_TRUE(beside->finished().status.ok()) << beside->finished().status;
  EXPECT_EQ(engine.Idle().sessions_reclaimed, 1);
  EXPECT_EQ(engine.Get(id)->length, 12);
  EXPECT_EQ(engine.Get(id)->kv_length, 0);
  auto goes_on = engine.Read(TestEngine::Request({}, 2, id));
  ASSERT_TRUE(goes_on->WaitDone());
  EXPECT_TRUE(goes_on->finished().status.ok());
}

TEST(QuotaTest, QueuedRequests) {
  TenantQuotas quotas;
  EngineSetup setup = Limited(quotas, {.queued_requests = 2});
  setup.fake.max_lanes = 1;
  TestEngine engine(setup);
  engine.fake().Stall(true);
  auto runs = engine.Read(TestEngine::Request(Range(10, 4), 4));
  std::vector<std::unique_ptr<Reader>> waiting;
  absl::Status refused;
  while (refused.ok() && waiting.size() < 10) {  // the first may still count as waiting
    auto stream = engine->Generate(TestEngine::Request(Range(10, 4), 4));
    refused = stream.status();
    if (stream.ok()) waiting.push_back(std::make_unique<Reader>(*stream));
  }
  ExpectOverQuota(refused, absl::Milliseconds(100));
  EXPECT_LE(waiting.size(), 2u);
  auto other = engine.Read(Of(kOther, TestEngine::Request(Range(10, 4), 4)));
  engine.fake().Stall(false);
  ASSERT_TRUE(runs->WaitDone() && other->WaitDone());
  EXPECT_TRUE(other->finished().status.ok());
  for (auto& reader : waiting) ASSERT_TRUE(reader->WaitDone());
  EXPECT_TRUE(engine->Generate(TestEngine::Request(Range(10, 4), 4)).ok());
}

TEST(QuotaTest, TokensASecond) {
  TenantQuotas quotas;
  EngineSetup setup = Limited(quotas, {.tokens_per_second = 10, .burst_tokens = 20});
  setup.fake_clock = true;
  TestEngine engine(setup);
  auto first = engine.Read(TestEngine::Request(Range(10, 15), 10));  // 20 saved up, 25 used
  ASSERT_TRUE(first->WaitDone());
  EXPECT_TRUE(first->finished().status.ok());
  ExpectOverQuota(engine->Generate(TestEngine::Request(Range(10, 1), 1)).status(), absl::Milliseconds(600));
  EXPECT_TRUE(engine->Generate(Of(kOther, TestEngine::Request(Range(10, 1), 1))).ok());
  engine.Advance(absl::Milliseconds(599));
  ExpectOverQuota(engine->Generate(TestEngine::Request(Range(10, 1), 1)).status(), absl::Milliseconds(1));
  engine.Advance(absl::Milliseconds(1));
  auto paid = engine.Read(TestEngine::Request(Range(10, 1), 1));  // 1 saved up, 2 used
  ASSERT_TRUE(paid->WaitDone());
  EXPECT_TRUE(paid->finished().status.ok());
  engine.Advance(absl::Hours(1));  // 20 saved up, not 36,000
  auto burst = engine.Read(TestEngine::Request(Range(10, 15), 10));
  ASSERT_TRUE(burst->WaitDone());
  ExpectOverQuota(engine->Generate(TestEngine::Request(Range(10, 1), 1)).status(), absl::Milliseconds(600));
}

TEST(QuotaTest, WhatTheEngineRefusesIsNotCharged) {
  TenantQuotas quotas;
  EngineSetup setup = Limited(quotas, {.tokens_per_second = 1, .burst_tokens = 8});
  setup.fake_clock = true;
  TestEngine engine(setup);
  for (int i = 0; i < 5; ++i) {
    auto refused = engine.Read(TestEngine::Request(Range(10, 7), 1, "none"));
    ASSERT_TRUE(refused->WaitDone());
    EXPECT_EQ(ReasonOf(refused->finished().status), ErrorReason::kSessionNotFound) << i;
  }
}

TEST(QuotaTest, NewLimitsKeepTheDebt) {
  TenantQuotas quotas;
  const absl::Time now = absl::FromUnixSeconds(1000);
  quotas.SetLimits({{"a", {.tokens_per_second = 10}}});
  ASSERT_TRUE(quotas.Admit("a", 110, now).ok());  // 10 saved up
  quotas.SetLimits({{"a", {.tokens_per_second = 100}}, {"b", {.tokens_per_second = 1}}});
  EXPECT_EQ(RetryAfterOf(quotas.Admit("a", 1, now).status()), absl::Milliseconds(1010));
  EXPECT_TRUE(quotas.Admit("b", 5, now).ok());
  EXPECT_EQ(quotas.LimitsOf("a").tokens_per_second, 100);
  EXPECT_EQ(quotas.LimitsOf("c"), TenantLimits());
}

// Tenant A's prompt is in the index; what B hears must be as if it had never been.
TEST(TenantTest, PrefixesOfOneTenantAreNotFoundByAnother) {
  for (const bool across : {false, true}) {
    EngineSetup setup;
    setup.fake.page_tokens = 4;
    setup.engine.share_across_tenants = across;
    TestEngine engine(setup);
    const std::vector<TokenId> secret = Range(10, 21);
    auto first = engine.Read(Of("a", TestEngine::Request(secret, 4)));
    ASSERT_TRUE(first->WaitDone());
    auto own = engine.Read(Of("a", TestEngine::Request(secret, 4)));
    auto others = engine.Read(Of("b", TestEngine::Request(secret, 4)));
    ASSERT_TRUE(own->WaitDone() && others->WaitDone());
    EXPECT_EQ(own->finished().usage.cached_tokens, 20);
    EXPECT_EQ(others->finished().usage.cached_tokens, across ? 20 : 0);
    EXPECT_EQ(own->tokens(), others->tokens());
  }
}

}  // namespace
}  // namespace megakernel::testing
