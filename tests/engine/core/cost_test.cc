// What a token costs does not grow with the length of its sequence: counted, not timed.
//
// Everything that the engine, the fake executor and the stream allocate is added up. Whoever copies a sequence, a page
// table or a text once per token allocates in proportion to the length, per token. What may grow is a vector that
// doubles: it allocates 2 to 4 bytes for each byte that it ends up with, so a token of a long run costs at most twice
// what one of a short run costs.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "tests/engine/core/engine_fixture.h"

namespace {

std::atomic<std::uint64_t> allocated_bytes{0};

}  // namespace

// Not inlined: the compiler would see new's memory given to free, or malloc's to delete, and warn.
[[gnu::noinline]] void* operator new(std::size_t size) {
  allocated_bytes.fetch_add(size, std::memory_order_relaxed);
  if (void* const memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace megakernel::testing {
namespace {

constexpr int kShort = 1000;
constexpr int kLong = 16000;
constexpr int kMaxGrowth = 2;  // of a vector that doubles, see above

struct Cost {
  double bytes = 0;                  // allocated, by token
  std::int64_t repeated_checks = 0;  // positions that the fake executor looked back at more than once
};

// One generation of `max_tokens` tokens. The engine is new, so that nothing is found in the prefix index.
Cost CostOf(GenerateRequest request, int max_tokens) {
  EngineSetup setup;
  setup.fake.max_context = kLong + 64;
  setup.fake.num_pages = request.n * (kLong + 64) / setup.fake.page_tokens + 64;
  setup.engine.stream_buffer = request.n * kLong;
  TestEngine engine(setup);
  request.max_tokens = max_tokens;
  const std::uint64_t before = allocated_bytes.load();
  auto reader = engine.Read(std::move(request));
  EXPECT_TRUE(reader->WaitDone());
  EXPECT_EQ(reader->tokens().size(), static_cast<std::size_t>(max_tokens));
  engine.Idle();
  const auto bytes = static_cast<double>(allocated_bytes.load() - before);
  return {.bytes = bytes / max_tokens,
          .repeated_checks = static_cast<std::int64_t>(engine.fake().num_checks()) -
                             static_cast<std::int64_t>(engine.fake().num_rows())};
}

void ExpectConstantCost(const GenerateRequest& request) {
  const Cost few = CostOf(request, kShort);
  const Cost many = CostOf(request, kLong);
  EXPECT_LE(many.bytes, kMaxGrowth * few.bytes) << few.bytes << " bytes a token at " << kShort << " tokens";
  // Once for each admission of the prompt: alone, and in each alternative.
  const std::int64_t admitted = (request.n + 1) * static_cast<std::int64_t>(request.tokens.size());
  EXPECT_LE(few.repeated_checks, admitted);
  EXPECT_LE(many.repeated_checks, admitted);
}

TEST(CostTest, OfTokenIds) {
  ExpectConstantCost(TestEngine::Request(Range(10, 5), kShort));
}

TEST(CostTest, OfTextWithStopStringsAndLogprobs) {
  GenerateRequest request = TestEngine::Request(Range(10, 5), kShort);
  request.wants_text = true;
  request.stop_strings = {"this never comes", "neither does that"};
  request.sampling.logprobs = 1;
  ExpectConstantCost(request);
}

TEST(CostTest, OfAlternatives) {
  GenerateRequest request = TestEngine::Request(Range(10, 5), kShort);
  request.sampling.temperature = 1;
  request.n = 2;
  ExpectConstantCost(request);
}

}  // namespace
}  // namespace megakernel::testing
