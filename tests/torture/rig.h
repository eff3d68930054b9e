// What a row drives: a server on a free port over a fake executor, clients of it, and what is left when they are gone.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "clients/cpp/call_loop.h"
#include "clients/cpp/client.h"
#include "engine/base/clock.h"
#include "engine/core/engine.h"
#include "server/server.h"
#include "tests/torture/faults.h"

namespace megakernel::torture {

// Real time, moved by what a row says.
class JumpingClock final : public Clock {
 public:
  absl::Time Now() const override { return steady_.Now() + absl::Nanoseconds(offset_ns_.load()); }
  void SetOffset(absl::Duration offset) { offset_ns_ = absl::ToInt64Nanoseconds(offset); }

 private:
  const SteadyClock steady_;
  std::atomic<std::int64_t> offset_ns_{0};
};

struct RigOptions {
  FakeOptions fake;  // the byte model's vocabulary
  EngineOptions engine;
  ServerSettings settings;
  Fault fault = Fault::kNone;

  explicit RigOptions(Fault with);
};

// What nobody uses any more should be zero.
struct Left {
  std::int64_t pages = 0, sessions = 0, sequences = 0, waiting = 0;
  std::int64_t calls = 0;  // Generate and Decode, open at the server
  absl::Duration settled;  // how long it took to get there

  bool nothing() const { return pages == 0 && sessions == 0 && sequences == 0 && waiting == 0 && calls == 0; }
  std::string Text() const;
};

class Rig {
 public:
  explicit Rig(RigOptions options);
  ~Rig();

  FaultyExecutor& executor() { return *executor_; }
  Engine& engine() { return *engine_; }
  Server& server() { return *server_; }
  JumpingClock& clock() { return clock_; }
  const FakeOptions& fake_options() const { return options_.fake; }
  std::string address() const;

  // A connection of its own.
  std::unique_ptr<client::Client> Connect() const;
  // What the fake makes of a prompt, greedy.
  std::vector<TokenId> Expected(const std::vector<TokenId>& prompt, int count) const;
  // Waits until nothing is left, at most for `limit`.
  Left Settle(absl::Duration limit);
  // A short call gives the right tokens.
  bool Probe() const;

 private:
  RigOptions options_;
  JumpingClock clock_;
  std::unique_ptr<Model> model_;
  FaultyExecutor* executor_ = nullptr;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Server> server_;
};

v1::GenerateRequest TokensRequest(const std::vector<TokenId>& prompt, int max_tokens, const std::string& session = "");
// Bytes of the byte model, the same for the same seed.
std::vector<TokenId> RandomPrompt(std::uint64_t seed, int length);

// A whole call: its tokens and how it ended.
struct Answer {
  client::Error error;
  std::vector<TokenId> tokens;
  v1::GenerationStarted started;
  v1::GenerationFinished finished;
};
Answer Ask(client::Client& client, const v1::GenerateRequest& request,
           absl::Duration timeout = absl::InfiniteDuration());

// Of this process.
std::int64_t OpenFiles();
std::int64_t Threads();
std::int64_t ResidentBytes();
// Waits until at most `limit` files are open, at most 5 s; how many are.
std::int64_t SettleFiles(std::int64_t limit);

}  // namespace megakernel::torture
