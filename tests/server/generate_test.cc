// Generate over the wire: order, content, sessions, and every early end.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/text/tokenizer.h"
#include "server/byte_model.h"
#include "tests/server/test_server.h"

namespace megakernel::testing {
namespace {

SamplingParams Greedy() {
  SamplingParams sampling;
  sampling.temperature = 0;
  return sampling;
}

std::vector<TokenId> Expected(const TestServer& server, const std::vector<TokenId>& prompt, int max_tokens) {
  return FakeGenerate(server.fake_options(), prompt, Greedy(), max_tokens);
}

TestServerOptions SlowSteps(absl::Duration step) {
  TestServerOptions options;
  options.fake.step_time = step;
  return options;
}

TEST(Generate, StartedDeltasFinishedInOrder) {
  TestServer server;
  v1::GenerateRequest request = TokensRequest({10, 11, 12}, 20);
  request.set_request_id("order-1");
  const Generated result = Generate(server.inference(), request);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  ASSERT_GE(result.responses.size(), 3u);
  ASSERT_TRUE(result.responses.front().has_started());
  ASSERT_TRUE(result.responses.back().has_finished());
  for (std::size_t i = 1; i + 1 < result.responses.size(); ++i) EXPECT_TRUE(result.responses[i].has_delta()) << i;
  EXPECT_EQ(result.started.request_id(), "order-1");
  EXPECT_EQ(result.started.prompt_tokens(), 3);
  EXPECT_EQ(result.started.instance_id(), server.server().instance_id());
  EXPECT_EQ(result.tokens, Expected(server, {10, 11, 12}, 20));
  const v1::GenerationFinished& finished = result.finished.at(0);
  EXPECT_EQ(finished.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(finished.usage().prompt_tokens(), 3);
  EXPECT_EQ(finished.usage().completion_tokens(), 20);
  EXPECT_EQ(finished.session_length(), 23);
  EXPECT_EQ(server.Idle().pages_used, 0);
}

TEST(Generate, TextIsWhatTheTokensSay) {
  TestServer server;
  const Generated result = Generate(server.inference(), TextRequest("Hello", 12));
  ASSERT_TRUE(result.status.ok());
  v1::DetokenizeRequest request;
  request.mutable_token_ids()->Add(result.tokens.begin(), result.tokens.end());
  v1::DetokenizeResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(server.inference().Detokenize(&context, request, &response).ok());
  EXPECT_FALSE(result.text.empty());
  EXPECT_EQ(result.text, response.text());
}

TEST(Generate, SendsOnlyWhatIsAskedFor) {
  TestServer server;
  v1::GenerateRequest request = TextRequest("Hello", 8);
  request.mutable_output()->set_token_ids(false);
  Generated result = Generate(server.inference(), request);
  EXPECT_TRUE(result.tokens.empty());
  EXPECT_FALSE(result.text.empty());
  request.mutable_output()->set_token_ids(true);
  request.mutable_output()->set_text(false);
  request.mutable_output()->set_logprobs(2);
  request.mutable_output()->set_prompt_logprobs(0);
  result = Generate(server.inference(), request);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_TRUE(result.text.empty());
  EXPECT_EQ(result.tokens.size(), 8u);
  int logprobs = 0, prompt_logprobs = 0;
  for (const v1::GenerateResponse& response : result.responses) {
    logprobs += response.delta().logprobs_size();
    prompt_logprobs += response.delta().prompt_logprobs_size();
    for (const auto& position : response.delta().logprobs()) EXPECT_EQ(position.top_size(), 2);
  }
  EXPECT_EQ(logprobs, 8);
  EXPECT_EQ(prompt_logprobs, 4);  // five bytes, all but the first
}

TEST(Generate, StopTokenAndStopStringEndTheOutput) {
  TestServer server;
  const std::vector<TokenId> full = Expected(server, {10, 11, 12}, 20);
  v1::GenerateRequest request = TokensRequest({10, 11, 12}, 20);
  request.mutable_stopping()->add_stop_token_ids(full[7]);
  const std::size_t first = std::find(full.begin(), full.end(), full[7]) - full.begin();
  Generated result = Generate(server.inference(), request);
  ASSERT_EQ(result.finished.size(), 1u);
  EXPECT_EQ(result.finished[0].reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(result.finished[0].stop_token_id(), full[7]);
  EXPECT_EQ(result.tokens, std::vector<TokenId>(full.begin(), full.begin() + first + 1));

  request = TokensRequest({10, 11, 12}, 20);
  const std::string word(server.model().tokenizer().TokenBytes(full[3], true));
  request.mutable_stopping()->add_stop(word);
  result = Generate(server.inference(), request);
  ASSERT_EQ(result.finished.size(), 1u);
  EXPECT_EQ(result.finished[0].reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(result.finished[0].stop(), word);
  EXPECT_EQ(result.text.find(word), std::string::npos);
}

TEST(Generate, SequencesDrawWithTheirOwnSeeds) {
  TestServer server;
  v1::GenerateRequest request = TokensRequest({10, 11}, 6);
  request.mutable_sampling()->set_temperature(1);
  request.mutable_sampling()->set_seed(100);
  request.set_num_sequences(3);
  const Generated result = Generate(server.inference(), request);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  std::map<int, std::vector<TokenId>> tokens;
  for (const v1::GenerateResponse& response : result.responses) {
    auto& sequence = tokens[response.delta().index()];
    sequence.insert(sequence.end(), response.delta().token_ids().begin(), response.delta().token_ids().end());
  }
  EXPECT_EQ(result.finished.size(), 3u);
  for (int i = 0; i < 3; ++i) {
    SamplingParams sampling;
    sampling.seed = 100 + static_cast<std::uint64_t>(i);
    EXPECT_EQ(tokens[i], FakeGenerate(server.fake_options(), {10, 11}, sampling, 6)) << i;
  }
}

TEST(Generate, SessionGoesOnWhereItEnded) {
  TestServer server;
  const std::string session = CreateSession(server);
  Generated first = Generate(server.inference(), TokensRequest({10, 11}, 5, session));
  ASSERT_TRUE(first.status.ok());
  EXPECT_EQ(first.started.session_id(), session);
  std::vector<TokenId> sequence = {10, 11};
  sequence.insert(sequence.end(), first.tokens.begin(), first.tokens.end());
  sequence.push_back(20);
  v1::GenerateRequest request = TokensRequest({20}, 4, session);
  request.set_expected_length(7);
  const Generated second = Generate(server.inference(), request);
  ASSERT_TRUE(second.status.ok()) << second.status.error_message();
  EXPECT_EQ(second.tokens, Expected(server, sequence, 4));
  EXPECT_GE(second.started.cached_tokens(), 6);
  // The same request again: a retry may not append twice.
  const Generated retry = Generate(server.inference(), request);
  EXPECT_EQ(retry.failure.code, grpc::ABORTED);
  EXPECT_EQ(retry.failure.reason, "LENGTH_MISMATCH");
  EXPECT_EQ(GetSession(server, session).session().length(), 12);
}

TEST(Generate, ChatOnASessionReadsAsOneConversation) {
  TestServer server;
  const auto chat = [](const std::string& content, const std::string& session) {
    v1::GenerateRequest request = TokensRequest({}, 6, session);
    auto* message = request.mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content(content);
    return request;
  };
  const std::string session = CreateSession(server);
  const Generated first = Generate(server.inference(), chat("one", session));
  ASSERT_TRUE(first.status.ok()) << first.status.error_message();
  const Generated second = Generate(server.inference(), chat("two", session));
  ASSERT_TRUE(second.status.ok()) << second.status.error_message();
  const v1::GetSessionResponse state = GetSession(server, session, true);
  const std::vector<TokenId> tokens(state.token_ids().begin(), state.token_ids().end());
  EXPECT_EQ(server.model().tokenizer().Decode(tokens, false),
            "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n" + first.text +
                "<|im_end|>\n<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\n" + second.text);
}

// Cancels after `wanted` messages and checks that nothing leaks and that the session holds what was handed out at
// least.
void CancelAfter(TestServer& server, int wanted) {
  SCOPED_TRACE(wanted);
  const std::string session = CreateSession(server);
  std::vector<TokenId> received;
  {
    grpc::ClientContext context;
    auto reader = server.inference().Generate(&context, TokensRequest({10, 11, 12}, 0, session));
    v1::GenerateResponse response;
    for (int i = 0; i < wanted; ++i) {
      ASSERT_TRUE(reader->Read(&response));
      received.insert(received.end(), response.delta().token_ids().begin(), response.delta().token_ids().end());
    }
    context.TryCancel();
    while (reader->Read(&response)) {
      received.insert(received.end(), response.delta().token_ids().begin(), response.delta().token_ids().end());
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  }
  // A call that was cancelled at once may reach the server after the client has done with it: the server can look idle
  // before. Requests of one connection arrive in order, so a first answer says that the call is there.
  GetSession(server, session);
  v1::GetSessionResponse state;
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  do {
    server.Idle();
    state = GetSession(server, session, true);
  } while (state.session().busy() && absl::Now() < deadline);
  EXPECT_FALSE(state.session().busy());
  ASSERT_GE(state.token_ids_size(), static_cast<int>(received.size()));
  // List and keys and values are a prefix of what the model says: whoever goes on gets the same text.
  std::vector<TokenId> sequence(state.token_ids().begin(), state.token_ids().end());
  if (sequence.empty()) return;  // cancelled before it was admitted
  const int generated = static_cast<int>(sequence.size()) - 3;
  ASSERT_GE(generated, 0);
  std::vector<TokenId> expected = {10, 11, 12};
  const std::vector<TokenId> output = Expected(server, expected, generated + 5);
  expected.insert(expected.end(), output.begin(), output.begin() + generated);
  EXPECT_EQ(sequence, expected);
  const Generated rest = Generate(server.inference(), TokensRequest({}, 5, session));
  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  EXPECT_EQ(rest.tokens, std::vector<TokenId>(output.begin() + generated, output.end()));
}

TEST(Generate, CancelAtEachStep) {
  TestServer server(SlowSteps(absl::Microseconds(500)));
  for (int wanted = 0; wanted < 12; ++wanted) CancelAfter(server, wanted);
  server.Idle();
  EXPECT_EQ(server.server().open_calls(), 0u);
}

// Whoever sets the wall clock while the server runs moves no deadline: the server's clock goes its own way here.
TEST(Generate, DeadlineIsTimeThatIsLeftAndNoWallTime) {
  FakeClock clock;
  clock.Advance(absl::Hours(24 * 365 * 100));  // ahead of the wall clock, so that every wall time has passed
  TestServerOptions options = SlowSteps(absl::Milliseconds(5));
  options.clock = &clock;
  TestServer server(options);
  EXPECT_TRUE(Generate(server.inference(), TokensRequest({1}, 5), absl::Seconds(1000)).status.ok());
  server.Idle();
  std::thread running([&] {
    const Generated result = Generate(server.inference(), TokensRequest({1}, 0), absl::Seconds(1000));
    EXPECT_EQ(result.status.error_code(), grpc::DEADLINE_EXCEEDED);
    EXPECT_EQ(result.failure.reason, "DEADLINE_EXCEEDED");
  });
  while (server.engine().Stats().sequences_running == 0) absl::SleepFor(absl::Milliseconds(1));
  clock.Advance(absl::Seconds(1100));  // gRPC sends timeouts rounded up, by up to 10 s here
  server.engine().Wake();
  running.join();
  server.Idle();
}

TEST(Generate, DeadlineEndsQueuedAndRunningCalls) {
  TestServerOptions options = SlowSteps(absl::Milliseconds(2));
  options.fake.max_lanes = 1;
  TestServer server(options);
  const std::string session = CreateSession(server);
  std::thread running([&] {
    const Generated result = Generate(server.inference(), TokensRequest({1}, 0, session), absl::Milliseconds(150));
    EXPECT_EQ(result.status.error_code(), grpc::DEADLINE_EXCEEDED);
    EXPECT_TRUE(result.finished.empty());
  });
  const Generated queued = Generate(server.inference(), TokensRequest({2}, 0), absl::Milliseconds(50));
  EXPECT_EQ(queued.status.error_code(), grpc::DEADLINE_EXCEEDED);
  running.join();
  server.Idle();
  EXPECT_FALSE(GetSession(server, session).session().busy());
}

TEST(Generate, QueueOverflowIsRefusedWithARetryTime) {
  TestServerOptions options = SlowSteps(absl::Milliseconds(1));
  options.fake.max_lanes = 1;
  options.engine.max_queue = 2;
  TestServer server(options);
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> readers;
  const auto start = [&] {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(server.inference().Generate(contexts.back().get(), TokensRequest({1, 2}, 0)));
  };
  start();
  v1::GenerateResponse response;
  ASSERT_TRUE(readers[0]->Read(&response));  // it has the lane
  start();
  start();
  while (server.engine().Stats().requests_waiting < 2) absl::SleepFor(absl::Milliseconds(1));
  const Generated refused = Generate(server.inference(), TokensRequest({3}, 4));
  EXPECT_EQ(refused.failure.code, grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(refused.failure.reason, "QUEUE_FULL");
  EXPECT_EQ(refused.failure.retry_ms, 100);
  EXPECT_EQ(refused.failure.pushback, "100");
  for (auto& context : contexts) context->TryCancel();
  for (auto& reader : readers) {
    while (reader->Read(&response)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  }
  EXPECT_EQ(server.Idle().pages_used, 0);
}

TEST(Generate, SlowReaderLosesItsCallAndNobodyElse) {
  TestServerOptions options;
  options.engine.stream_buffer = 64;
  options.fake.max_context = 1 << 20;
  options.fake.num_pages = 1 << 17;
  TestServer server(options);
  const std::string session = CreateSession(server);
  grpc::ChannelArguments arguments;
  grpc::ClientContext context;
  const auto channel = server.NewChannel();
  const auto stub = v1::InferenceService::NewStub(channel);
  v1::GenerateRequest request = TokensRequest({1}, 0, session);
  request.mutable_output()->set_logprobs(8);  // large messages: the transport's buffers fill early
  auto reader = stub->Generate(&context, request);
  // Nobody reads. The stream's buffer runs over, the session stays.
  const absl::Time limit = absl::Now() + absl::Seconds(20);
  while (server.engine().Stats().requests == 0 && absl::Now() < limit) absl::SleepFor(absl::Milliseconds(1));
  ASSERT_TRUE(server.engine().WaitIdle(absl::Seconds(20)));
  const Generated other = Generate(server.inference(), TokensRequest({5, 6}, 10));
  EXPECT_TRUE(other.status.ok());
  int received = 0;
  for (v1::GenerateResponse response; reader->Read(&response);) received += response.delta().token_ids_size();
  const grpc::Status status = reader->Finish();
  const Failure failure = Explain(status, context);
  EXPECT_EQ(failure.code, grpc::RESOURCE_EXHAUSTED) << failure.message;
  EXPECT_EQ(failure.reason, "SLOW_CONSUMER");
  EXPECT_EQ(failure.pushback, "-1");
  EXPECT_GT(received, 0);
  EXPECT_EQ(GetSession(server, session).session().length(), 1 + received);
}

TEST(Generate, ManyClientsWithCancels) {
  TestServerOptions options = SlowSteps(absl::Microseconds(200));
  options.fake.num_pages = 256;
  TestServer server(options);
  std::atomic<int> completed{0};
  std::vector<std::thread> clients;
  for (int c = 0; c < 8; ++c) {
    clients.emplace_back([&, c] {
      const auto channel = server.NewChannel();
      const auto stub = v1::InferenceService::NewStub(channel);
      for (int i = 0; i < 8; ++i) {
        const std::vector<TokenId> prompt(static_cast<std::size_t>(1 + (c * 7 + i * 13) % 60), 20 + c);
        const int max_tokens = 1 + (c + i * 5) % 40;
        if ((c + i) % 3 == 0) {
          grpc::ClientContext context;
          auto reader = stub->Generate(&context, TokensRequest(prompt, 0));
          v1::GenerateResponse response;
          for (int m = 0; m < i && reader->Read(&response); ++m) {
          }
          context.TryCancel();
          reader->Finish();
          continue;
        }
        const Generated result = Generate(*stub, TokensRequest(prompt, max_tokens));
        ASSERT_TRUE(result.status.ok()) << result.status.error_message();
        EXPECT_EQ(result.tokens, Expected(server, prompt, max_tokens));
        ++completed;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_GT(completed, 30);
  EXPECT_EQ(server.Idle().pages_used, 0);
}

TEST(Generate, ExecutorFailureIsInternal) {
  TestServer server(SlowSteps(absl::Milliseconds(1)));
  grpc::ClientContext context;
  auto reader = server.inference().Generate(&context, TokensRequest({1}, 0));
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  server.fake().Fail(absl::InternalError("seeded fault"));
  while (reader->Read(&response)) EXPECT_FALSE(response.has_finished());
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::INTERNAL);
  EXPECT_EQ(Explain(status, context).reason, "EXECUTOR_FAILED");
  EXPECT_FALSE(Generate(server.inference(), TokensRequest({1}, 3)).status.ok());
}

}  // namespace
}  // namespace megakernel::testing
