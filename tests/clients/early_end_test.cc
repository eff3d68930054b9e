// Generations that end early, in every way a client can bring about, against real servers with the CPU and the fake
// executor. Whatever the moment: the session holds the tokens of an undisturbed run up to some length, at least those
// that the client saw; and going on, forking and rolling back from there give the tokens of the undisturbed run.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "clients/cpp/client.h"
#include "tests/clients/server_process.h"

namespace megakernel::client {
namespace {

using Tokens = std::vector<std::int32_t>;
using tests::ServerProcess;

constexpr char kPrompt[] = "Once upon a time there was";
constexpr int kMaxTokens = 120;
constexpr int kMore = 6;  // tokens of each continuation
constexpr absl::Duration kLimit = absl::Seconds(60);

class EarlyEndTest : public ::testing::TestWithParam<const char*> {
 protected:
  EarlyEndTest() : server_(Flags()) {
    auto client = Client::Connect(server_.address());
    if (!client.ok()) return;
    client_ = std::move(client.value());
    const std::string id = Create();
    EXPECT_TRUE(Generate(Request(id, kMaxTokens), {.timeout = kLimit}).error.ok());
    undisturbed_ = SessionTokens(id);
    prompt_tokens_ = static_cast<int>(undisturbed_.size()) - kMaxTokens;
  }
  void SetUp() override {
    ASSERT_NE(client_, nullptr) << server_.log();
    ASSERT_GT(prompt_tokens_, 0) << server_.log();
  }
  void TearDown() override {
    EXPECT_EQ(server_.Stop(), 0) << server_.log();
    EXPECT_NE(server_.log().find("in_use sequences=0 waiting=0"), std::string::npos) << server_.log();
  }

  struct Output {
    Error error;
    int received = 0;
    bool finished = false;
  };

  static std::vector<std::string> Flags() {
    const char* model = std::getenv("MEGAKERNEL_TEST_MODEL");
    if (GetParam() == std::string("fake")) return {"--device", "fake", "--fake-step-time", "3ms"};
    return {"--device",      "cpu",   "--model",       model == nullptr ? "" : model,
            "--kv-memory",   "64MiB", "--page-tokens", "4",
            "--max-context", "512"};
  }

  std::string Create() {
    const auto session = client_->CreateSession({});
    EXPECT_TRUE(session.ok());
    return session->session_id();
  }

  // Greedy. Without a prompt when `max_tokens` is that of a continuation.
  static v1::GenerateRequest Request(const std::string& session, int max_tokens) {
    v1::GenerateRequest request;
    request.set_session_id(session);
    if (max_tokens == kMaxTokens) request.set_text(kPrompt);
    request.mutable_sampling()->set_temperature(0);
    request.mutable_stopping()->set_max_tokens(max_tokens);
    request.mutable_stopping()->set_ignore_eos(true);
    return request;
  }

  // Leaves after `leave_after` tokens; 0: never.
  Output Generate(const v1::GenerateRequest& request, const CallOptions& options, int leave_after = 0) {
    Output output;
    output.error = client_->Generate(
        request,
        [&](const v1::GenerateResponse& response) {
          output.received += response.delta().token_ids_size();
          output.finished |= response.has_finished();
          return leave_after == 0 || output.received < leave_after;
        },
        options);
    return output;
  }

  // Once nothing runs on it.
  Tokens SessionTokens(const std::string& id) {
    EXPECT_TRUE(client_->AwaitIdleSession(id, kLimit).ok());
    v1::GetSessionRequest request;
    request.set_session_id(id);
    request.set_include_tokens(true);
    const auto session = client_->GetSession(request);
    EXPECT_TRUE(session.ok());
    if (!session.ok()) return {};
    EXPECT_EQ(session->session().length(), session->token_ids_size());
    return {session->token_ids().begin(), session->token_ids().end()};
  }

  // `id` has `length` tokens of the undisturbed run; with some more it has as many more of them.
  void ExpectGoesOn(const std::string& id, int length) {
    const Output more = Generate(Request(id, kMore), {.timeout = kLimit});
    EXPECT_TRUE(more.error.ok()) << Describe(more.error);
    EXPECT_EQ(more.received, kMore);
    EXPECT_EQ(SessionTokens(id), Tokens(undisturbed_.begin(), undisturbed_.begin() + length + kMore));
  }

  // After an early end of which the client saw `received` tokens.
  void CheckSession(const std::string& id, int received) {
    const Tokens tokens = SessionTokens(id);
    const int length = static_cast<int>(tokens.size());
    ASSERT_GE(length, prompt_tokens_ + received);
    ASSERT_LT(length, prompt_tokens_ + kMaxTokens - kMore) << "it did not end early: nothing is proved";
    ASSERT_EQ(tokens, Tokens(undisturbed_.begin(), undisturbed_.begin() + length));
    v1::ForkSessionRequest fork;
    fork.set_session_id(id);
    for (int i = 0; i < 2; ++i) {
      const auto forked = client_->ForkSession(fork);
      ASSERT_TRUE(forked.ok());
      int from = length;
      if (i == 1) {  // rolled back before it goes on
        from = prompt_tokens_ + received / 2;
        v1::RollbackSessionRequest rollback;
        rollback.set_session_id(forked->session_id());
        rollback.set_length(from);
        ASSERT_TRUE(client_->RollbackSession(rollback).ok());
      }
      ExpectGoesOn(forked->session_id(), from);
      EXPECT_TRUE(client_->DeleteSession(forked->session_id()).ok());
    }
    ExpectGoesOn(id, length);  // the retry
    EXPECT_TRUE(client_->DeleteSession(id).ok());
  }

  ServerProcess server_;
  std::unique_ptr<Client> client_;
  Tokens undisturbed_;  // of the prompt and kMaxTokens after it
  int prompt_tokens_ = 0;
};

TEST_P(EarlyEndTest, CancelledAfterEachOfTheFirstTokens) {
  for (const int after : {1, 2, 3, 4, 7, 12}) {
    SCOPED_TRACE(after);
    const std::string id = Create();
    const Output output = Generate(Request(id, kMaxTokens), {.timeout = kLimit}, after);
    EXPECT_EQ(output.error.code, absl::StatusCode::kCancelled);
    CheckSession(id, output.received);
  }
}

TEST_P(EarlyEndTest, DeadlineWhileItDecodes) {
  for (int tries = 0; tries < 3; ++tries) {
    const std::string id = Create();
    const Output output = Generate(Request(id, kMaxTokens), {.timeout = absl::Milliseconds(120 + 40 * tries)});
    EXPECT_EQ(output.error.code, absl::StatusCode::kDeadlineExceeded);
    CheckSession(id, output.received);
  }
}

TEST_P(EarlyEndTest, StopString) {
  v1::DetokenizeRequest words;
  for (int i = 9; i < 12; ++i) words.add_token_ids(undisturbed_[static_cast<std::size_t>(prompt_tokens_ + i)]);
  const auto text = client_->Detokenize(words);
  ASSERT_TRUE(text.ok());
  const std::string id = Create();
  v1::GenerateRequest request = Request(id, kMaxTokens);
  request.mutable_stopping()->add_stop(text->text());
  const Output output = Generate(request, {.timeout = kLimit});
  EXPECT_TRUE(output.error.ok()) << Describe(output.error);
  EXPECT_TRUE(output.finished);
  CheckSession(id, output.received);
}

TEST_P(EarlyEndTest, CancelOperationOfATokenLoop) {
  const std::string id = Create();
  auto stream = client_->Decode({.timeout = kLimit});
  ASSERT_NE(stream->Open(id), 0u);
  v1::AppendTokens append;
  append.set_text(kPrompt);
  stream->Append(append);
  v1::DecodeTokens decode;
  *decode.mutable_sampling() = Request(id, kMore).sampling();
  decode.mutable_stopping()->set_max_tokens(kMaxTokens);
  decode.mutable_stopping()->set_ignore_eos(true);
  const std::uint64_t decoding = stream->Decode(decode);
  int received = 0;
  int length = -1;
  v1::DecodeResponse response;
  while (length < 0 && stream->Read(&response)) {
    ASSERT_FALSE(response.has_error()) << response.error().message();
    received += response.delta().token_ids_size();
    if (response.has_delta() && received >= 5) stream->Cancel();
    if (response.has_finished() && response.operation_id() == decoding) length = response.finished().session_length();
  }
  stream->CloseSending();
  while (stream->Read(&response)) continue;
  EXPECT_EQ(length, prompt_tokens_ + received);
  CheckSession(id, received);
}

// The client's process is killed: its connection breaks, and nobody says anything.
TEST_P(EarlyEndTest, ClientKilled) {
  const std::string id = Create();
  const char* const folder = std::getenv("MEGAKERNEL_BIN");
  ASSERT_NE(folder, nullptr);
  const std::string program = std::string(folder) + "/megakernel";
  const std::string most = std::to_string(kMaxTokens);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    execl(program.c_str(), program.c_str(), "generate", "--server", server_.address().c_str(), "--session", id.c_str(),
          "--temperature", "0", "--max-tokens", most.c_str(), "--ignore-eos", "--json", kPrompt, nullptr);
    _exit(127);
  }
  close(ends[1]);
  char first = 0;
  EXPECT_EQ(read(ends[0], &first, 1), 1);  // it streams
  kill(child, SIGKILL);
  close(ends[0]);
  EXPECT_EQ(waitpid(child, nullptr, 0), child);
  CheckSession(id, 0);
}

INSTANTIATE_TEST_SUITE_P(Devices, EarlyEndTest, ::testing::Values("cpu", "fake"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace megakernel::client
