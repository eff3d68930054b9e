// The fake executor notices pages that are not what they should be, at a cost that does not grow with the sequence.
#include "engine/executor/fake_machine.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/engine/core/engine_fixture.h"

namespace megakernel::testing {
namespace {

constexpr std::int32_t kPageTokens = 4;

FakeOptions Options() {
  FakeOptions options;
  options.max_lanes = 2;
  options.max_context = 8192;
  options.page_tokens = kPageTokens;
  options.num_pages = 2048;
  return options;
}

class FakeMachineTest : public ::testing::Test {
 protected:
  // A greedy sequence on `pages`.
  void AdmitTo(std::int32_t lane, std::vector<TokenId> tokens, std::int32_t token_limit, std::vector<PageId> pages,
               std::int32_t kv_length = 0) {
    Command command = Admit{.lane = lane,
                            .epoch = ++epoch_,
                            .order = epoch_,
                            .tokens = std::move(tokens),
                            .kv_length = kv_length,
                            .token_limit = token_limit,
                            .pages = std::move(pages),
                            .sampling = TestEngine::Greedy()};
    machine_.Apply(command, events_);
  }
  void Copy(PageId source, PageId target) {
    Command command = CopyPage{.source = source, .target = target};
    machine_.Apply(command, events_);
  }
  void RunAll() {
    while (machine_.Step(events_)) events_.clear();
  }
  bool Says(const std::string& what) const {
    return std::string(machine_.health().message()).find(what) != std::string::npos;
  }

  FakeMachine machine_{Options()};
  std::vector<Event> events_;
  std::uint32_t epoch_ = 0;
};

TEST_F(FakeMachineTest, ATokenCostsTheSameAtEveryLength) {
  AdmitTo(0, {1}, 8000, Range(0, 2000));
  AdmitTo(1, {2}, 100, Range(2000, 48));
  RunAll();
  ASSERT_TRUE(machine_.health().ok()) << machine_.health();
  EXPECT_EQ(machine_.num_rows(), 7999u + 99u);
  EXPECT_LE(machine_.num_checks(), machine_.num_rows());
}

TEST_F(FakeMachineTest, APrefixFromTheIndexIsCheckedOnce) {
  AdmitTo(0, Range(0, 41), 42, Range(0, 11));
  RunAll();
  const std::uint64_t before = machine_.num_checks();
  AdmitTo(1, Range(0, 41), 60, Concat(Range(0, 10), Range(20, 5)), 40);
  RunAll();
  ASSERT_TRUE(machine_.health().ok()) << machine_.health();
  EXPECT_EQ(machine_.num_checks() - before, 58u);  // each position before the last row's
}

TEST_F(FakeMachineTest, APrefixThatWasNeverWrittenIsFound) {
  AdmitTo(0, Range(0, 9), 20, Range(0, 5), 8);
  RunAll();
  EXPECT_TRUE(Says("position 0 in page 0 was never written")) << machine_.health();
}

TEST_F(FakeMachineTest, APrefixOfOtherTokensIsFound) {
  AdmitTo(0, Range(0, 9), 10, Range(0, 3));
  RunAll();
  AdmitTo(0, Range(1, 9), 20, Range(0, 5), 8);
  RunAll();
  EXPECT_TRUE(Says("position 0 in page 0 holds another prefix")) << machine_.health();
}

TEST_F(FakeMachineTest, ACopyOverAPageInUseIsFoundByTheNextRow) {
  AdmitTo(0, Range(0, 9), 100, Range(0, 25));
  machine_.Step(events_);
  machine_.Step(events_);
  ASSERT_TRUE(machine_.health().ok()) << machine_.health();
  Copy(30, 1);
  machine_.Step(events_);
  EXPECT_TRUE(Says("position 4 in page 1 was never written")) << machine_.health();
}

TEST_F(FakeMachineTest, APageTwiceInOneTableIsFound) {
  AdmitTo(0, Range(0, 9), 100, Concat(Range(0, 4), {1, 5, 6, 7}));
  RunAll();
  EXPECT_TRUE(Says("holds another prefix")) << machine_.health();
}

TEST_F(FakeMachineTest, APageToWriteThatAnotherLaneHoldsIsFound) {
  AdmitTo(0, Range(0, 9), 100, Range(0, 25));
  AdmitTo(1, Range(0, 9), 100, Range(24, 25));
  EXPECT_TRUE(Says("page 24 is given to lane 1 for writing while lane 0 holds it")) << machine_.health();
}

TEST_F(FakeMachineTest, CopiesOfPagesThatDoNotExistAreRefused) {
  Copy(0, 2048);
  EXPECT_TRUE(Says("copy of page 0 to 2048")) << machine_.health();
}

}  // namespace
}  // namespace megakernel::testing
