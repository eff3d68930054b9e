// 64 clients at once against a real server: mixed lengths, sampling, cancels and forks. Every stream equals what the
// same request gives alone on another server process, and nothing is left behind.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "clients/cpp/client.h"
#include "tests/clients/server_process.h"

namespace megakernel::client {
namespace {

using Tokens = std::vector<std::int32_t>;
using tests::ServerProcess;

constexpr int kClients = 64;
constexpr absl::Duration kCallLimit = absl::Seconds(120);

enum class Kind { kPlain, kCancel, kFork };

// What client `index` asks for: a function of the index only.
struct Scenario {
  explicit Scenario(int index)
      : kind(index % 4 == 1   ? Kind::kCancel
             : index % 4 == 3 ? Kind::kFork
                              : Kind::kPlain),
        prompt_tokens(1 + index * 7 % 45),
        max_tokens(3 + index * 5 % 14),
        cancel_after(1 + index % 3),
        seed(static_cast<std::uint64_t>(index)) {}

  v1::GenerateRequest Request() const {
    v1::GenerateRequest request;
    // Some prompts share their first tokens, so that equal prefixes are found; most do not.
    for (int i = 0; i < prompt_tokens; ++i) {
      request.mutable_tokens()->add_ids(1000 + (static_cast<int>(seed % 5) * 997 + i * 131) % 40000);
    }
    SetParameters(&request, seed);
    return request;
  }
  void SetParameters(v1::GenerateRequest* request, std::uint64_t with_seed) const {
    request->mutable_sampling()->set_seed(with_seed);
    request->mutable_sampling()->set_temperature(seed % 3 == 0 ? 0.0f : 0.9f);
    if (seed % 3 == 2) request->mutable_sampling()->set_top_p(0.9f);
    request->mutable_stopping()->set_max_tokens(max_tokens);
    request->mutable_stopping()->set_ignore_eos(true);
  }

  Kind kind;
  int prompt_tokens;
  int max_tokens;
  int cancel_after;  // tokens; of kCancel
  std::uint64_t seed;
};

// Appends the tokens of one generation to `tokens`; stops it once `stop_after` of them have come (0: never).
Error Generate(Client* client, const v1::GenerateRequest& request, int stop_after, Tokens* tokens) {
  CallOptions options;
  options.timeout = kCallLimit;
  return client->Generate(
      request,
      [&](const v1::GenerateResponse& response) {
        const auto& ids = response.delta().token_ids();
        tokens->insert(tokens->end(), ids.begin(), ids.end());
        return stop_after == 0 || static_cast<int>(tokens->size()) < stop_after;
      },
      options);
}

// A session that generates, is forked, and goes on in both branches with different seeds.
Error RunFork(Client* client, const Scenario& scenario, Tokens* tokens) {
  const auto session = client->CreateSession({});
  if (!session.ok()) return session.error();
  v1::GenerateRequest request = scenario.Request();
  request.set_session_id(session->session_id());
  Error error = Generate(client, request, 0, tokens);
  if (!error.ok()) return error;
  v1::ForkSessionRequest fork;
  fork.set_session_id(session->session_id());
  fork.set_length(scenario.prompt_tokens + scenario.max_tokens - 1);
  const auto forked = client->ForkSession(fork);
  if (!forked.ok()) return forked.error();
  for (const std::string& id : {session->session_id(), forked->session_id()}) {
    v1::GenerateRequest more;
    more.set_session_id(id);
    scenario.SetParameters(&more, scenario.seed + tokens->size());
    error = Generate(client, more, 0, tokens);
    if (!error.ok()) return error;
    error = client->DeleteSession(id);
    if (!error.ok()) return error;
  }
  return Error();
}

// Runs one client's scenario on a connection of its own. `cancel`: whether those that cancel do.
Error RunClient(const std::string& address, int index, bool cancel, Tokens* tokens) {
  ConnectOptions options;
  options.timeout = absl::Seconds(30);
  auto client = Client::Connect(address, options);
  if (!client.ok()) return client.error();
  const Scenario scenario(index);
  if (scenario.kind == Kind::kFork) return RunFork(client.value().get(), scenario, tokens);
  const bool stops = cancel && scenario.kind == Kind::kCancel;
  Error error = Generate(client.value().get(), scenario.Request(), stops ? scenario.cancel_after : 0, tokens);
  // The generation may have ended by itself before the cancellation arrived.
  return stops && error.code == absl::StatusCode::kCancelled ? Error() : error;
}

std::vector<std::string> Flags() {
  const char* model = std::getenv("MEGAKERNEL_TEST_MODEL");
  // Fewer lanes than clients, so that some wait; small pages, so that forks and prefixes end inside and between them.
  return {"--device",      "cpu",   "--model",         model == nullptr ? "" : model,
          "--kv-memory",   "96MiB", "--max-sequences", "16",
          "--page-tokens", "4",     "--max-context",   "512"};
}

TEST(ManyClientsTest, EveryStreamEqualsItsOwnAloneRunAndNothingIsLeft) {
  std::vector<Tokens> alone(kClients);
  {
    ServerProcess server(Flags());
    ASSERT_FALSE(server.address().empty()) << server.log();
    for (int i = 0; i < kClients; ++i) {
      const Error error = RunClient(server.address(), i, /*cancel=*/false, &alone[i]);
      ASSERT_TRUE(error.ok()) << "client " << i << ": " << Describe(error);
    }
  }

  ServerProcess server(Flags());
  ASSERT_FALSE(server.address().empty()) << server.log();
  std::vector<Tokens> together(kClients);
  std::vector<Error> errors(kClients);
  std::vector<std::thread> threads;
  for (int i = 0; i < kClients; ++i) {
    threads.emplace_back([&, i] { errors[i] = RunClient(server.address(), i, /*cancel=*/true, &together[i]); });
  }
  for (std::thread& thread : threads) thread.join();

  int cancelled_early = 0;
  for (int i = 0; i < kClients; ++i) {
    EXPECT_TRUE(errors[i].ok()) << "client " << i << ": " << Describe(errors[i]);
    const Scenario scenario(i);
    if (scenario.kind == Kind::kCancel) {
      ASSERT_GE(static_cast<int>(together[i].size()), std::min(scenario.cancel_after, scenario.max_tokens));
      ASSERT_LE(together[i].size(), alone[i].size());
      cancelled_early += together[i].size() < alone[i].size() ? 1 : 0;
      alone[i].resize(together[i].size());
    }
    EXPECT_EQ(together[i], alone[i]) << "client " << i;
  }
  EXPECT_GT(cancelled_early, 0) << "no cancellation took effect: the test would prove nothing about them";

  auto client = Client::Connect(server.address());
  ASSERT_TRUE(client.ok());
  EXPECT_EQ(client.value()->ListSessions({})->sessions_size(), 0);
  // One more generation: its steps come after everything that was cancelled has been taken out.
  Tokens last;
  EXPECT_TRUE(RunClient(server.address(), 0, false, &last).ok());
  EXPECT_EQ(last, alone[0]);
  EXPECT_EQ(server.Stop(), 0) << server.log();
  EXPECT_NE(server.log().find("in_use sequences=0 waiting=0 sessions=0 pages=0"), std::string::npos) << server.log();
}

}  // namespace
}  // namespace megakernel::client
