#include "tests/engine/core/engine_fixture.h"

#include <numeric>
#include <utility>

namespace megakernel::testing {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);

// Calls operation(callback) and waits for the callback.
template <typename T, typename Operation>
absl::StatusOr<T> Await(Operation operation) {
  struct State {
    Mutex mutex;
    std::optional<absl::StatusOr<T>> result;
  };
  auto state = std::make_shared<State>();
  operation([state](absl::StatusOr<T> result) {
    MutexLock lock(&state->mutex);
    state->result = std::move(result);
  });
  MutexLock lock(&state->mutex);
  const auto ready = [&] { return state->result.has_value(); };
  if (!state->mutex.AwaitWithTimeout(ready, kPatience)) {
    return absl::DeadlineExceededError("the engine did not answer");
  }
  return *std::move(state->result);
}

}  // namespace

Reader::Reader(std::shared_ptr<TokenStream> stream) : stream_(std::move(stream)), choices_(stream_->num_choices()) {
  stream_->SetWake([this] { Take(); });
}

Reader::~Reader() {
  stream_->Detach();
}

void Reader::Take() {
  MutexLock lock(&mutex_);
  while (stream_->Pop(update_)) {
    if (update_.started) started_ = std::move(update_.started);
    for (PromptLogprob& logprob : update_.prompt_logprobs) prompt_logprobs_.push_back(std::move(logprob));
    for (std::size_t i = 0; i < choices_.size(); ++i) {
      ChoiceUpdate& from = update_.choices[i];
      ChoiceUpdate& to = choices_[i];
      EXPECT_FALSE(to.finished.has_value() && !from.empty()) << "output after Finished";
      to.tokens.insert(to.tokens.end(), from.tokens.begin(), from.tokens.end());
      to.text += from.text;
      for (Logprobs& logprobs : from.logprobs) to.logprobs.push_back(std::move(logprobs));
      if (from.finished) to.finished = std::move(from.finished);
    }
    EXPECT_FALSE(done_);
    done_ = update_.done;
  }
}

bool Reader::Wait(const std::function<bool()>& condition) {
  MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(condition, kPatience);
}

bool Reader::WaitDone() {
  return Wait([this] { return done_; });
}

bool Reader::WaitTokens(int choice, std::size_t count) {
  return Wait([this, choice, count] { return done_ || choices_[choice].tokens.size() >= count; });
}

bool Reader::WaitStarted() {
  return Wait([this] { return done_ || started_.has_value(); });
}

FakeOptions EngineSetup::SmallFake() {
  FakeOptions fake;
  fake.vocab = kByteModelVocab;
  fake.first_token = kByteModelFirstWord;
  fake.page_tokens = 4;
  fake.num_pages = 1024;
  fake.max_rows = 16;
  fake.max_lanes = 4;
  fake.max_context = 512;
  return fake;
}

TestEngine::TestEngine(EngineSetup setup) : setup_(std::move(setup)), model_(NewByteModel(setup_.fake.max_context)) {
  std::unique_ptr<Executor> executor;
  if (setup_.executor) {
    executor = setup_.executor(setup_.fake);
  } else {
    auto fake = std::make_unique<FakeExecutor>(setup_.fake);
    fake_ = fake.get();
    executor = std::move(fake);
  }
  Clock* const clock = setup_.fake_clock ? static_cast<Clock*>(&fake_clock_) : &steady_clock_;
  auto engine = Engine::Create(setup_.engine, model_.get(), std::move(executor), clock);
  if (!engine.ok()) ADD_FAILURE() << engine.status();
  engine_ = *std::move(engine);
}

void TestEngine::Advance(absl::Duration duration) {
  fake_clock_.Advance(duration);
  engine_->Wake();
}

SamplingParams TestEngine::Greedy() {
  SamplingParams sampling;
  sampling.temperature = 0;
  return sampling;
}

GenerateRequest TestEngine::Request(std::vector<TokenId> prompt, int max_tokens, std::string session) {
  GenerateRequest request;
  request.session_id = std::move(session);
  request.tokens = std::move(prompt);
  request.sampling = Greedy();
  request.max_tokens = max_tokens;
  return request;
}

std::unique_ptr<Reader> TestEngine::Read(GenerateRequest request) {
  auto stream = engine_->Generate(std::move(request));
  if (!stream.ok()) {
    ADD_FAILURE() << stream.status();
    return nullptr;
  }
  return std::make_unique<Reader>(*std::move(stream));
}

std::vector<TokenId> TestEngine::Expected(std::vector<TokenId> prompt, int count,
                                          const SamplingParams& sampling) const {
  return FakeGenerate(setup_.fake, std::move(prompt), sampling, count);
}

absl::StatusOr<SessionInfo> TestEngine::Create(std::optional<absl::Duration> ttl) {
  return Await<SessionInfo>(
      [&](SessionCallback done) { engine_->CreateSession(kDefaultTenant, ttl, std::move(done)); });
}
absl::StatusOr<SessionInfo> TestEngine::Get(const std::string& id, const std::string& tenant) {
  return Await<SessionInfo>([&](SessionCallback done) { engine_->GetSession(tenant, id, true, std::move(done)); });
}
absl::StatusOr<SessionInfo> TestEngine::Fork(const std::string& id, std::optional<std::int32_t> length) {
  return Await<SessionInfo>(
      [&](SessionCallback done) { engine_->ForkSession(kDefaultTenant, id, length, std::nullopt, std::move(done)); });
}
absl::StatusOr<SessionInfo> TestEngine::Rollback(const std::string& id, std::int32_t length) {
  return Await<SessionInfo>(
      [&](SessionCallback done) { engine_->RollbackSession(kDefaultTenant, id, length, std::move(done)); });
}
absl::StatusOr<SessionInfo> TestEngine::Delete(const std::string& id) {
  return Await<SessionInfo>([&](SessionCallback done) { engine_->DeleteSession(kDefaultTenant, id, std::move(done)); });
}
absl::StatusOr<SessionImage> TestEngine::Export(const std::string& id) {
  return Await<SessionImage>(
      [&](SessionImageCallback done) { engine_->ExportSession(kDefaultTenant, id, std::move(done)); });
}
absl::StatusOr<SessionInfo> TestEngine::Import(SessionImage image, const std::string& tenant) {
  return Await<SessionInfo>(
      [&](SessionCallback done) { engine_->ImportSession(tenant, std::move(image), std::nullopt, std::move(done)); });
}
absl::StatusOr<SessionPage> TestEngine::List(int page_size, const std::string& page_token) {
  return Await<SessionPage>(
      [&](SessionPageCallback done) { engine_->ListSessions(kDefaultTenant, page_size, page_token, std::move(done)); });
}

EngineStats TestEngine::Idle() {
  EXPECT_TRUE(engine_->WaitIdle(kPatience));
  EXPECT_TRUE(engine_->Health().ok()) << engine_->Health();
  if (fake_ != nullptr) {
    EXPECT_TRUE(fake_->Health().ok()) << fake_->Health();
  }
  // A session operation goes round the engine thread: what ended before is in the statistics after it.
  (void)List(1, "");
  const EngineStats stats = engine_->Stats();
  EXPECT_EQ(stats.sequences_running, 0);
  EXPECT_EQ(stats.requests_waiting, 0);
  EXPECT_EQ(stats.pages_used + stats.pages_cached + stats.pages_free, stats.pages_total);
  return stats;
}

std::vector<TokenId> Range(TokenId first, int count) {
  std::vector<TokenId> tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

std::vector<TokenId> Concat(std::vector<TokenId> a, const std::vector<TokenId>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace megakernel::testing
