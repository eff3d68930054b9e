// An engine over the fake executor and the byte model, and a consumer that collects what a stream carries.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/mutex.h"
#include "engine/core/engine.h"
#include "engine/executor/fake_executor.h"
#include "server/byte_model.h"

namespace megakernel::testing {

// Reads a stream as fast as it comes. Destroy after done().
class Reader {
 public:
  explicit Reader(std::shared_ptr<TokenStream> stream);
  ~Reader();

  // False when it did not come within 30 s.
  bool WaitDone();
  bool WaitTokens(int choice, std::size_t count);
  bool WaitStarted();

  // After WaitDone; without a lock.
  const Finished& finished(int choice = 0) const { return *choices_[choice].finished; }
  const std::vector<TokenId>& tokens(int choice = 0) const { return choices_[choice].tokens; }
  const std::string& text(int choice = 0) const { return choices_[choice].text; }
  const std::vector<Logprobs>& logprobs(int choice = 0) const { return choices_[choice].logprobs; }
  const std::vector<PromptLogprob>& prompt_logprobs() const { return prompt_logprobs_; }
  const std::optional<Started>& started() const { return started_; }
  TokenStream& stream() { return *stream_; }

 private:
  void Take();
  bool Wait(const std::function<bool()>& condition);

  const std::shared_ptr<TokenStream> stream_;
  Mutex mutex_;
  StreamUpdate update_;
  std::optional<Started> started_;
  std::vector<PromptLogprob> prompt_logprobs_;
  std::vector<ChoiceUpdate> choices_;
  bool done_ = false;
};

struct EngineSetup {
  FakeOptions fake = SmallFake();
  EngineOptions engine;
  bool fake_clock = false;
  // Makes another executor that gives the fake's tokens; then there is no fake().
  std::function<std::unique_ptr<Executor>(const FakeOptions&)> executor;

  // The byte model's vocabulary, small pages.
  static FakeOptions SmallFake();
};

class TestEngine {
 public:
  explicit TestEngine(EngineSetup setup = {});

  Engine* operator->() { return engine_.get(); }
  FakeExecutor& fake() { return *fake_; }
  const FakeOptions& fake_options() const { return setup_.fake; }
  // Moves the fake clock and makes the engine look.
  void Advance(absl::Duration duration);

  // A request without stop tokens: greedy, `max_tokens` long.
  static GenerateRequest Request(std::vector<TokenId> prompt, int max_tokens, std::string session = "");
  std::unique_ptr<Reader> Read(GenerateRequest request);
  // What the fake makes of it.
  std::vector<TokenId> Expected(std::vector<TokenId> prompt, int count,
                                const SamplingParams& sampling = Greedy()) const;
  static SamplingParams Greedy();

  // Session operations, waited for.
  absl::StatusOr<SessionInfo> Create(std::optional<absl::Duration> ttl = std::nullopt);
  absl::StatusOr<SessionInfo> Get(const std::string& id, const std::string& tenant = kDefaultTenant);
  absl::StatusOr<SessionInfo> Fork(const std::string& id, std::optional<std::int32_t> length = std::nullopt);
  absl::StatusOr<SessionInfo> Rollback(const std::string& id, std::int32_t length);
  absl::StatusOr<SessionInfo> Delete(const std::string& id);
  absl::StatusOr<SessionImage> Export(const std::string& id);
  absl::StatusOr<SessionInfo> Import(SessionImage image, const std::string& tenant = kDefaultTenant);
  absl::StatusOr<SessionPage> List(int page_size, const std::string& page_token);

  // Waits until nothing runs; fails the test when that does not come, or the executor is not well.
  EngineStats Idle();

 private:
  EngineSetup setup_;
  SteadyClock steady_clock_;
  FakeClock fake_clock_;
  std::unique_ptr<Model> model_;
  FakeExecutor* fake_ = nullptr;  // null with setup.executor
  std::unique_ptr<Engine> engine_;
};

// [first, first + count)
std::vector<TokenId> Range(TokenId first, int count);
std::vector<TokenId> Concat(std::vector<TokenId> a, const std::vector<TokenId>& b);

}  // namespace megakernel::testing
