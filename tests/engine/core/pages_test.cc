// KV pages: free, used, cached; what is shared and what may be written.
#include <gtest/gtest.h>

#include <random>

#include "engine/core/kv_cache.h"
#include "engine/core/sequence.h"

namespace megakernel {
namespace {

std::vector<TokenId> Tokens(int count, TokenId first = 0) {
  std::vector<TokenId> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(first + i);
  return tokens;
}

// Runs a sequence as a lane would: pages for its tokens, then all but the last token written.
std::optional<CopyPage> RunLane(Sequence& sequence, bool share = true) {
  const PagePlan plan = sequence.PlanPages(sequence.length() - 1, share);
  const auto copy = sequence.TakePages(plan, sequence.length() - 1);
  sequence.Settle(sequence.length());
  return copy;
}

TEST(PagesTest, FullPagesAreFoundAgainAndConfirmedByTokens) {
  KvCache cache(16, 4, true);
  {
    Sequence first(&cache, "a");
    first.Append(Tokens(10));
    RunLane(first);
    EXPECT_EQ(first.kv_length(), 9);
    EXPECT_EQ(cache.num_used(), 3);
  }
  EXPECT_EQ(cache.num_used(), 0);
  EXPECT_EQ(cache.num_cached(), 2);
  const auto found = [&](std::vector<TokenId> tokens, const std::string& tenant) {
    Sequence sequence(&cache, tenant);
    sequence.Append(tokens);
    return sequence.PlanPages(sequence.length(), true).kv_length;
  };
  EXPECT_EQ(found(Tokens(10), "a"), 8);
  EXPECT_EQ(found(Tokens(8), "a"), 4) << "the last token is always computed";
  EXPECT_EQ(found(Tokens(10, 1), "a"), 0);
  EXPECT_EQ(found(Tokens(10), "b"), 0);
}

TEST(PagesTest, TheEndOfAPrefixIsGivenUpFirst) {
  KvCache cache(5, 4, true);
  {
    Sequence first(&cache, "a");
    first.Append(Tokens(17));
    RunLane(first);
  }
  EXPECT_EQ(cache.num_cached(), 4);
  const PageId free_page = cache.Allocate();
  const PageId page = cache.Allocate();
  Sequence again(&cache, "a");
  again.Append(Tokens(17));
  EXPECT_EQ(again.PlanPages(17, true).kv_length, 12);
  cache.Release(page);
  cache.Release(free_page);
}

TEST(PagesTest, AForkCopiesThePageItWritesAndTheLastOwnerWritesInPlace) {
  KvCache cache(16, 4, true);
  Sequence parent(&cache, "a");
  parent.Append(Tokens(7));
  RunLane(parent);
  auto fork = std::make_unique<Sequence>(parent, 7);
  EXPECT_EQ(cache.num_used(), 2);
  fork->Append(50);
  const auto copy = RunLane(*fork);
  ASSERT_TRUE(copy.has_value());
  EXPECT_EQ(copy->source, parent.pages()[1]);
  EXPECT_EQ(copy->target, fork->pages()[1]);
  parent.Append(60);
  EXPECT_FALSE(RunLane(parent).has_value());
}

TEST(PagesTest, ARollbackIntoAPublishedPageCopiesOrUnpublishes) {
  for (const bool short_of_pages : {false, true}) {
    KvCache cache(2 + !short_of_pages, 4, true);
    Sequence sequence(&cache, "a");
    sequence.Append(Tokens(9));
    RunLane(sequence);
    const PageId second = sequence.pages()[1];
    EXPECT_TRUE(cache.published(second));
    sequence.Truncate(7);
    sequence.Append(99);
    const auto copy = RunLane(sequence, false);
    EXPECT_EQ(copy.has_value(), !short_of_pages);
    EXPECT_EQ(sequence.pages()[1] == second, short_of_pages);
  }
}

// Random sequences on few pages; a model of what each page holds checks every hit, every copy and every write.
TEST(PagesTest, RandomForksTruncationsAndDropsLoseAndMixNothing) {
  for (int seed = 0; seed < 30; ++seed) {
    std::mt19937 random(seed);
    const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    const int page_tokens = pick(1, 4);
    KvCache cache(60, page_tokens, pick(0, 4) > 0);
    std::vector<std::vector<std::vector<TokenId>>> content(60, std::vector<std::vector<TokenId>>(page_tokens));
    std::vector<std::unique_ptr<Sequence>> sequences;
    for (int step = 0; step < 600; ++step) {
      const int action = pick(0, 5);
      if (sequences.empty() || action == 0) sequences.push_back(std::make_unique<Sequence>(&cache, "a"));
      const int index = pick(0, static_cast<int>(sequences.size()) - 1);
      Sequence& sequence = *sequences[index];
      if (action == 1) sequences.push_back(std::make_unique<Sequence>(sequence, pick(0, sequence.length())));
      if (action == 2) sequence.Truncate(pick(0, sequence.length()));
      if (action == 3 && pick(0, 2) == 0) sequence.DropPages();
      if (action == 4 || sequences.size() > 8) {
        sequences.erase(sequences.begin() + index);
        continue;
      }
      sequence.Append(Tokens(pick(1, 5), pick(0, 2)));
      if (sequence.length() > 40) sequence.Truncate(pick(1, 10));
      if (sequence.kv_length() >= sequence.length()) continue;
      const PagePlan plan = sequence.PlanPages(sequence.length(), true);
      if (cache.available() < plan.new_pages + plan.idle_hits) continue;
      if (const auto copy = sequence.TakePages(plan, sequence.length())) content[copy->target] = content[copy->source];
      ASSERT_EQ(sequence.kv_length(), plan.kv_length);
      const std::vector<TokenId>& tokens = sequence.tokens();
      for (int p = 0; p < sequence.length(); ++p) {
        const PageId page = sequence.pages()[p / page_tokens];
        const std::vector<TokenId> prefix(tokens.begin(), tokens.begin() + p + 1);
        if (p < sequence.kv_length()) {
          ASSERT_EQ(content[page][p % page_tokens], prefix) << "seed " << seed << " step " << step;
        } else {
          ASSERT_TRUE(cache.writable(page)) << "seed " << seed << " step " << step;
          content[page][p % page_tokens] = prefix;
        }
      }
      sequence.Settle(pick(sequence.kv_length(), sequence.length()));
      ASSERT_EQ(cache.num_used() + cache.num_cached() + cache.num_free(), 60);
    }
    sequences.clear();
    ASSERT_EQ(cache.num_used(), 0);
  }
}

}  // namespace
}  // namespace megakernel
