// The client library against a server in this process: answers, errors with their details, cancellation, deadlines.
#include "clients/cpp/client.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/clients/silent_socket.h"
#include "tests/clients/stub_server.h"

namespace megakernel::client {
namespace {

constexpr absl::Duration kLong = absl::Seconds(20);  // far above what anything here takes

class ClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto connected = Client::Connect(server_.address());
    ASSERT_TRUE(connected.ok()) << Describe(connected.error());
    client_ = std::move(connected).value();
  }

  v1::GenerateRequest Prompt(const std::string& text, int max_tokens = 5) {
    v1::GenerateRequest request;
    request.set_text(text);
    request.mutable_stopping()->set_max_tokens(max_tokens);
    return request;
  }

  // Runs it, collects the text.
  Error Run(const v1::GenerateRequest& request, std::string* text, const CallOptions& options = {}) {
    return client_->Generate(
        request,
        [text](const v1::GenerateResponse& response) {
          *text += response.delta().text();
          return true;
        },
        options);
  }

  // A server notices the end of a call a moment after the client.
  void ExpectNothingRuns() {
    const absl::Time give_up = absl::Now() + kLong;
    while (server_.num_running() > 0 && absl::Now() < give_up) absl::SleepFor(absl::Milliseconds(1));
    EXPECT_EQ(server_.num_running(), 0);
  }

  tests::StubServer server_;
  std::unique_ptr<Client> client_;
};

TEST_F(ClientTest, StreamsAGeneration) {
  std::vector<v1::GenerateResponse> responses;
  const Error error = client_->Generate(Prompt("hello", 3), [&](const v1::GenerateResponse& response) {
    responses.push_back(response);
    return true;
  });
  ASSERT_TRUE(error.ok()) << Describe(error);
  ASSERT_EQ(responses.size(), 5u);
  EXPECT_EQ(responses[0].started().prompt_tokens(), 5);
  EXPECT_EQ(responses[1].delta().text(), "a");
  EXPECT_EQ(responses[3].delta().text(), "c");
  EXPECT_EQ(responses[4].finished().usage().completion_tokens(), 3);
}

TEST_F(ClientTest, ErrorsCarryReasonFieldDelayAndAdvice) {
  std::string text;
  const Error busy = Run(Prompt("busy"), &text);
  EXPECT_EQ(busy.code, absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(busy.reason, "QUEUE_FULL");
  EXPECT_EQ(busy.message, "256 requests wait");
  EXPECT_EQ(busy.retry_after, absl::Milliseconds(250));
  EXPECT_EQ(Describe(busy), "RESOURCE_EXHAUSTED (QUEUE_FULL): 256 requests wait");
  EXPECT_NE(busy.hint.find("--max-queue"), std::string::npos) << busy.hint;

  const Error bad = Run(Prompt("bad"), &text);
  EXPECT_EQ(bad.code, absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(bad.field, "sampling.top_p");
  EXPECT_NE(bad.hint.find("sampling.top_p"), std::string::npos) << bad.hint;

  const Error plain = Run(Prompt("plain"), &text);
  EXPECT_EQ(plain.code, absl::StatusCode::kInternal);
  EXPECT_EQ(plain.reason, "");
  EXPECT_EQ(plain.message, "something broke");
  EXPECT_FALSE(plain.hint.empty());
  EXPECT_EQ(text, "");
}

TEST(ErrorTest, EveryCodeHasAdvice) {
  for (int code = 1; code <= 16; ++code) {
    EXPECT_FALSE(HintFor(static_cast<absl::StatusCode>(code), "", "").empty()) << code;
  }
  EXPECT_TRUE(Error().ok());
  EXPECT_EQ(Describe(Error()), "OK");
}

TEST_F(ClientTest, AGenerationThatIsCutIsAnErrorAfterItsOutput) {
  std::string text;
  const Error error = Run(Prompt("cut"), &text);
  EXPECT_EQ(error.code, absl::StatusCode::kUnavailable);
  EXPECT_EQ(text, "ab");
}

TEST_F(ClientTest, TheCallbackCancels) {
  int seen = 0;
  const Error error = client_->Generate(Prompt("slow"), [&seen](const v1::GenerateResponse&) { return ++seen < 2; });
  EXPECT_EQ(error.code, absl::StatusCode::kCancelled);
  EXPECT_EQ(seen, 2);
  ExpectNothingRuns();
}

TEST_F(ClientTest, TheTokenCancelsFromAnotherThread) {
  CancelToken token;
  CallOptions options;
  options.cancel = &token;
  std::thread canceller;
  const Error error = client_->Generate(
      Prompt("slow"),
      [&](const v1::GenerateResponse& response) {
        if (response.has_delta()) canceller = std::thread([&token] { token.Cancel(); });
        return true;
      },
      options);
  canceller.join();
  EXPECT_EQ(error.code, absl::StatusCode::kCancelled);
  EXPECT_TRUE(token.cancelled());
  ExpectNothingRuns();
  std::string text;
  EXPECT_EQ(Run(Prompt("hello"), &text, options).code, absl::StatusCode::kCancelled) << "the token stays cancelled";
  EXPECT_EQ(text, "");
}

TEST_F(ClientTest, TheDeadlineEndsACall) {
  CallOptions options;
  options.timeout = absl::Milliseconds(50);
  std::string text;
  const Error error = Run(Prompt("slow"), &text, options);
  EXPECT_EQ(error.code, absl::StatusCode::kDeadlineExceeded);
  ExpectNothingRuns();
}

TEST_F(ClientTest, DecodeStreamAnswersInOrderAndGoesOnAfterAnError) {
  const auto stream = client_->Decode();
  v1::AppendTokens append;
  append.mutable_tokens()->add_ids(7);
  append.mutable_tokens()->add_ids(8);
  EXPECT_EQ(stream->Open(""), 1u);
  EXPECT_EQ(stream->Append(append), 2u);
  EXPECT_EQ(stream->Decode({}), 3u);
  EXPECT_EQ(stream->RollBack(99), 4u);
  EXPECT_EQ(stream->RollBack(1), 5u);
  stream->CloseSending();
  EXPECT_EQ(stream->Cancel(), 0u) << "nothing can be sent any more";

  std::vector<v1::DecodeResponse> responses;
  v1::DecodeResponse response;
  while (stream->Read(&response)) responses.push_back(response);
  const Error error = stream->Finish();
  EXPECT_TRUE(error.ok()) << Describe(error);
  ASSERT_EQ(responses.size(), 6u);
  EXPECT_EQ(responses[1].appended().length(), 2);
  EXPECT_EQ(responses[2].delta().token_ids(0), 3);
  EXPECT_EQ(responses[3].finished().session_length(), 3);
  EXPECT_EQ(responses[4].operation_id(), 4u);
  const Error failure = OperationFailure(responses[4].error());
  EXPECT_EQ(failure.code, absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(failure.field, "roll_back.length");
  EXPECT_FALSE(failure.hint.empty());
  EXPECT_EQ(responses[5].rolled_back().length(), 1);
}

TEST_F(ClientTest, ADecodeStreamThatIsDroppedEndsItsCall) {
  {
    const auto stream = client_->Decode();
    ASSERT_EQ(stream->Open(""), 1u);
    v1::DecodeResponse response;
    ASSERT_TRUE(stream->Read(&response));
    EXPECT_EQ(server_.num_running(), 1);
  }
  ExpectNothingRuns();
}

TEST_F(ClientTest, ADecodeStreamReportsHowItEnded) {
  const auto stream = client_->Decode();
  stream->Open("session-99");
  v1::DecodeResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().reason, "SESSION_NOT_FOUND");
  EXPECT_EQ(stream->Finish().reason, "SESSION_NOT_FOUND") << "asked twice";
}

TEST_F(ClientTest, Sessions) {
  const auto created = client_->CreateSession({});
  ASSERT_TRUE(created.ok()) << Describe(created.error());
  const std::string id = created->session_id();
  v1::GenerateRequest request = Prompt("hello", 4);
  request.set_session_id(id);
  std::string text;
  EXPECT_TRUE(Run(request, &text).ok());
  const auto idle = client_->AwaitIdleSession(id, kLong);
  ASSERT_TRUE(idle.ok());
  EXPECT_EQ(idle->length(), 9);

  v1::ForkSessionRequest fork;
  fork.set_session_id(id);
  fork.set_length(3);
  const auto forked = client_->ForkSession(fork);
  ASSERT_TRUE(forked.ok());
  EXPECT_EQ(forked->length(), 3);
  v1::RollbackSessionRequest rollback;
  rollback.set_session_id(id);
  rollback.set_length(2);
  EXPECT_EQ(client_->RollbackSession(rollback)->length(), 2);
  EXPECT_EQ(client_->ListSessions({})->sessions_size(), 2);
  EXPECT_TRUE(client_->DeleteSession(id).ok());
  EXPECT_EQ(client_->DeleteSession(id).reason, "SESSION_NOT_FOUND");
  server_.ExpireSessions();
  v1::GetSessionRequest get;
  get.set_session_id(forked->session_id());
  EXPECT_EQ(client_->GetSession(get).error().reason, "SESSION_EXPIRED");
}

TEST_F(ClientTest, TokenizerAndModel) {
  v1::TokenizeRequest tokenize;
  tokenize.set_text("AB");
  const auto tokens = client_->Tokenize(tokenize);
  ASSERT_TRUE(tokens.ok());
  ASSERT_EQ(tokens->token_ids_size(), 2);
  EXPECT_EQ(tokens->token_ids(1), 'B');
  v1::DetokenizeRequest detokenize;
  detokenize.add_token_ids('C');
  EXPECT_EQ(client_->Detokenize(detokenize)->text(), "C");
  EXPECT_EQ(client_->GetModel()->name(), "stub");
}

TEST_F(ClientTest, Health) {
  EXPECT_EQ(client_->CheckHealth().value(), Health::kServing);
  EXPECT_EQ(client_->CheckHealth("nobody").value(), Health::kServiceUnknown);
  std::vector<Health> seen;
  const Error error = client_->WatchHealth("", [&](Health health) {
    seen.push_back(health);
    if (seen.size() == 1) server_.SetServing(false);
    return seen.size() < 2;
  });
  EXPECT_TRUE(error.ok()) << Describe(error);
  EXPECT_EQ(seen, (std::vector<Health>{Health::kServing, Health::kNotServing}));
  EXPECT_EQ(client_->WaitUntilServing(absl::Milliseconds(50)).code, absl::StatusCode::kDeadlineExceeded);
  std::thread later([this] { server_.SetServing(true); });
  EXPECT_TRUE(client_->WaitUntilServing(kLong).ok());
  later.join();
}

TEST_F(ClientTest, AServerThatGoesAwayIsUnavailable) {
  server_.Stop();
  std::string text;
  const Error error = Run(Prompt("hello"), &text);
  EXPECT_EQ(error.code, absl::StatusCode::kUnavailable);
  EXPECT_FALSE(error.hint.empty());
}

TEST(ConnectTest, NobodyListens) {
  const tests::SilentSocket closed(/*listening=*/false);
  const absl::Time start = absl::Now();
  const auto client = Client::Connect(closed.address());
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.error().code, absl::StatusCode::kUnavailable);
  EXPECT_NE(client.error().message.find(closed.address()), std::string::npos) << client.error().message;
  EXPECT_LT(absl::Now() - start, ConnectOptions().timeout) << "a refused connection fails at once";
}

TEST(ConnectTest, NobodyAnswers) {
  const tests::SilentSocket silent(/*listening=*/true);
  ConnectOptions options;
  options.timeout = absl::Milliseconds(200);
  const auto client = Client::Connect(silent.address(), options);
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.error().code, absl::StatusCode::kDeadlineExceeded);
}

TEST(ConnectTest, NoAddress) {
  EXPECT_EQ(Client::Connect("").error().code, absl::StatusCode::kInvalidArgument);
}

TEST(ConnectTest, WaitsForAServerThatStarts) {
  const tests::SilentSocket closed(/*listening=*/false);
  ConnectOptions options;
  options.timeout = absl::Milliseconds(300);
  options.wait_for_server = true;
  const absl::Time start = absl::Now();
  EXPECT_EQ(Client::Connect(closed.address(), options).error().code, absl::StatusCode::kUnavailable);
  EXPECT_GE(absl::Now() - start, options.timeout) << "it kept trying";
}

}  // namespace
}  // namespace megakernel::client
