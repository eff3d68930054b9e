// Random storms of generations, cancels, deadlines, forks, rollbacks and deletes from several threads, on few pages:
// every token is the one that the sequence alone would give, every length is the one reported, no page is lost.
#include <random>
#include <thread>

#include "absl/time/clock.h"
#include "engine/cuda/resident_executor.h"
#include "tests/engine/core/engine_fixture.h"
#include "tests/support/simulated_device.h"

namespace megakernel::testing {
namespace {

struct Storm {
  const char* name;
  int page_tokens;
  int num_pages;
  int lanes;
  int rows;
  bool sharing;
  int step_us;
  bool resident = false;  // on the resident executor over a simulated device
};

class EngineStorm : public ::testing::TestWithParam<Storm> {};

std::unique_ptr<Executor> NewResident(const FakeOptions& fake) {
  auto device = std::make_unique<test::SimulatedDevice>(
      test::SimulatedOptions{.fake = fake, .step_time = absl::ToChronoMicroseconds(fake.step_time)});
  const layout::Program program = device->program();
  return NewResidentExecutor(program, "simulated", std::move(device), {.spin = absl::Microseconds(20)});
}

EngineSetup SetupOf(const Storm& storm) {
  EngineSetup setup;
  setup.fake.page_tokens = storm.page_tokens;
  setup.fake.num_pages = storm.num_pages;
  setup.fake.max_lanes = storm.lanes;
  setup.fake.max_rows = storm.rows;
  setup.fake.max_context = 128;
  setup.fake.step_time = absl::Microseconds(storm.step_us);
  setup.engine.prefix_sharing = storm.sharing;
  if (storm.resident) setup.executor = NewResident;
  return setup;
}

// One client: a session of its own, and what it believes the session holds.
class Client {
 public:
  Client(TestEngine& engine, int seed) : engine_(engine), random_(seed) {}

  void Run(int operations) {
    NewSession();
    for (int i = 0; i < operations && !::testing::Test::HasFailure(); ++i) {
      switch (Pick(0, 7)) {
        case 0:
          Rollback();
          break;
        case 1:
          ForkAndSwitch();
          break;
        case 2:
          Alternatives();
          break;
        case 3:
          EXPECT_TRUE(engine_.Delete(id_).ok());
          NewSession();
          break;
        default:
          Generate();
          break;
      }
    }
    EXPECT_TRUE(engine_.Delete(id_).ok());
  }

 private:
  int Pick(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

  void NewSession() {
    const auto session = engine_.Create();
    ASSERT_TRUE(session.ok()) << session.status();
    id_ = session->id;
    tokens_.clear();
  }

  // Few different beginnings, so that prefixes are shared.
  std::vector<TokenId> Prompt() { return Concat(Range(Pick(3, 4), Pick(1, 24)), Range(Pick(3, 200), Pick(0, 3))); }

  void Generate() {
    const std::vector<TokenId> prompt = Prompt();
    const int room = 128 - static_cast<int>(tokens_.size() + prompt.size());
    if (room < 1) return Rollback();
    GenerateRequest request = TestEngine::Request(prompt, Pick(0, std::min(room, 40)), id_);
    request.expected_length = static_cast<int>(tokens_.size());
    const int max_tokens = *request.max_tokens;
    const int how = Pick(0, 3);
    if (how == 0) request.deadline = absl::Now() + absl::Microseconds(Pick(0, 4000));
    auto reader = engine_.Read(std::move(request));
    ASSERT_NE(reader, nullptr);
    if (how == 1 && reader->WaitTokens(0, Pick(0, max_tokens))) reader->stream().Cancel();
    ASSERT_TRUE(reader->WaitDone());
    Check(*reader, prompt, max_tokens);
  }

  void Check(Reader& reader, const std::vector<TokenId>& prompt, int max_tokens) {
    const Finished& finished = reader.finished();
    if (reader.started().has_value()) tokens_ = Concat(tokens_, prompt);
    const std::vector<TokenId> expected = engine_.Expected(tokens_, max_tokens);
    const auto count = static_cast<std::ptrdiff_t>(reader.tokens().size());
    ASSERT_LE(count, max_tokens);
    ASSERT_EQ(reader.tokens(), std::vector<TokenId>(expected.begin(), expected.begin() + count));
    ASSERT_TRUE(!finished.status.ok() || count == max_tokens) << count << " of " << max_tokens;
    tokens_ = Concat(tokens_, reader.tokens());
    ASSERT_EQ(finished.session_length, static_cast<int>(tokens_.size())) << finished.status;
    const auto session = engine_.Get(id_);
    ASSERT_TRUE(session.ok()) << session.status();
    ASSERT_EQ(session->tokens, tokens_);
    ASSERT_LE(session->kv_length, std::max(0, session->length - 1));
  }

  void Rollback() {
    const int length = Pick(0, static_cast<int>(tokens_.size()));
    const auto session = engine_.Rollback(id_, length);
    ASSERT_TRUE(session.ok()) << session.status();
    tokens_.resize(length);
    ASSERT_EQ(session->length, length);
  }

  // Goes on with the fork or with the parent; the other one is deleted, or generates once more first.
  void ForkAndSwitch() {
    const int length = Pick(0, static_cast<int>(tokens_.size()));
    const auto fork = engine_.Fork(id_, length);
    ASSERT_TRUE(fork.ok()) << fork.status();
    if (Pick(0, 1) == 0) Generate();
    const std::string parent = id_;
    id_ = fork->id;
    tokens_.assign(fork->length, 0);
    tokens_ = engine_.Get(id_)->tokens;
    ASSERT_EQ(static_cast<int>(tokens_.size()), length);
    ASSERT_TRUE(engine_.Delete(parent).ok());
  }

  void Alternatives() {
    const std::vector<TokenId> prompt = Prompt();
    GenerateRequest request = TestEngine::Request(prompt, Pick(1, 20));
    request.n = Pick(2, 4);
    request.sampling.temperature = 1;
    request.sampling.seed = 100;
    const GenerateRequest sent = request;
    auto reader = engine_.Read(std::move(request));
    ASSERT_NE(reader, nullptr);
    ASSERT_TRUE(reader->WaitDone());
    for (int i = 0; i < sent.n; ++i) {
      SamplingParams sampling = sent.sampling;
      sampling.seed += i;
      ASSERT_TRUE(reader->finished(i).status.ok()) << reader->finished(i).status;
      ASSERT_EQ(reader->tokens(i), engine_.Expected(prompt, *sent.max_tokens, sampling)) << "choice " << i;
    }
  }

  TestEngine& engine_;
  std::mt19937 random_;
  std::string id_;
  std::vector<TokenId> tokens_;
};

TEST_P(EngineStorm, EveryStreamEqualsItsOwnAloneRunAndNoPageIsLost) {
  TestEngine engine(SetupOf(GetParam()));
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&engine, i] { Client(engine, 1000 + i).Run(60); });
  }
  for (std::thread& thread : threads) thread.join();
  const EngineStats stats = engine.Idle();
  EXPECT_EQ(stats.pages_used, 0);
  EXPECT_EQ(stats.sessions, 0);
  EXPECT_GT(stats.output_tokens, 0);
  if (std::string(GetParam().name) == "Scarce") {
    EXPECT_GT(stats.preemptions + stats.sessions_reclaimed, 0);
  }
  EXPECT_TRUE(GetParam().sharing || stats.pages_cached == 0);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, EngineStorm,
    ::testing::Values(Storm{"Plenty", 4, 2048, 8, 32, true, 0}, Storm{"Scarce", 4, 40, 6, 16, true, 0},
                      Storm{"ScarceWithSteps", 4, 40, 6, 16, true, 100},
                      Storm{"ScarceUnshared", 4, 40, 6, 16, false, 0}, Storm{"LongPages", 64, 6, 4, 16, true, 0},
                      Storm{"OneTokenPages", 1, 300, 4, 8, true, 0}, Storm{"NarrowSteps", 4, 200, 6, 2, true, 0},
                      Storm{"Resident", 4, 2048, 8, 8, true, 0, true},
                      Storm{"ResidentScarce", 4, 40, 6, 8, true, 100, true}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace megakernel::testing
