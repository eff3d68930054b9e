// Before the model is loaded, when the executor stands still, and an end with calls that nobody answers.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/byte_model.h"
#include "server/session_store.h"
#include "server/warm_up.h"
#include "tests/server/test_server.h"

namespace megakernel::testing {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// The health of the server as a whole, followed.
class HealthWatch {
 public:
  explicit HealthWatch(const std::shared_ptr<grpc::Channel>& channel)
      : stub_(grpc::health::v1::Health::NewStub(channel)), watch_(stub_->Watch(&context_, HealthCheckRequest())) {}
  ~HealthWatch() {
    context_.TryCancel();
    HealthCheckResponse response;
    while (watch_->Read(&response)) {
    }
    watch_->Finish();
  }
  // The next state, waited for.
  HealthCheckResponse::ServingStatus Next() {
    HealthCheckResponse response;
    return watch_->Read(&response) ? response.status() : HealthCheckResponse::UNKNOWN;
  }

 private:
  const std::unique_ptr<grpc::health::v1::Health::Stub> stub_;
  grpc::ClientContext context_;
  const std::unique_ptr<grpc::ClientReader<HealthCheckResponse>> watch_;
};

TEST(StartTest, ListensAtOnceAndRefusesUntilItServes) {
  SteadyClock clock;
  ServerSettings settings;
  auto server = Server::Listen(settings, clock);
  ASSERT_TRUE(server.ok()) << server.status();
  const auto channel = grpc::CreateChannel((*server)->address(), grpc::InsecureChannelCredentials());
  const auto inference = v1::InferenceService::NewStub(channel);
  const auto sessions = v1::SessionService::NewStub(channel);
  HealthWatch health(channel);
  EXPECT_EQ(health.Next(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ((*server)->load().state, ServerLoad::State::kLoading);
  EXPECT_EQ((*server)->engine(), nullptr);

  const auto expect_starting = [](const Failure& failure) {
    EXPECT_EQ(failure.code, grpc::UNAVAILABLE) << failure.message;
    EXPECT_EQ(failure.reason, "STARTING");
    EXPECT_EQ(failure.retry_ms, 1000);
    EXPECT_EQ(failure.pushback, "1000");
  };
  expect_starting(Generate(*inference, TokensRequest({300}, 3)).failure);
  {
    grpc::ClientContext context;
    v1::CreateSessionResponse response;
    expect_starting(Explain(sessions->CreateSession(&context, {}, &response), context));
  }
  {
    grpc::ClientContext context;
    v1::GetModelResponse response;
    expect_starting(Explain(inference->GetModel(&context, {}, &response), context));
  }
  {
    grpc::ClientContext context;
    auto stream = inference->Decode(&context);
    v1::DecodeResponse response;
    EXPECT_FALSE(stream->Read(&response));
    expect_starting(Explain(stream->Finish(), context));
  }

  const auto model = NewByteModel(1024);
  auto engine = Engine::Create(EngineOptions(), model.get(), std::make_unique<FakeExecutor>(ByteFake()), &clock);
  ASSERT_TRUE(engine.ok());
  EXPECT_TRUE(WarmUp(**engine).ok());
  EXPECT_EQ((*engine)->Stats().requests, 1);
  (*server)->Serve(**engine, {.max_context = 1024, .max_queue = 1, .max_sessions = 1});
  EXPECT_EQ(health.Next(), HealthCheckResponse::SERVING);
  EXPECT_EQ(Generate(*inference, TokensRequest({300}, 3)).tokens.size(), 3u);
  (*engine)->Shutdown(absl::ZeroDuration());
  (*server)->Stop(absl::Milliseconds(200));
}

TEST(StartTest, WarmUpTellsOfAnExecutorThatFails) {
  SteadyClock clock;
  const auto model = NewByteModel(1024);
  auto fake = std::make_unique<FakeExecutor>(ByteFake());
  fake->Fail(absl::InternalError("the device is gone"));
  auto engine = Engine::Create(EngineOptions(), model.get(), std::move(fake), &clock);
  ASSERT_FALSE(engine.ok() && WarmUp(**engine).ok());
}

// What main makes of a failure: health at once, calls when the engine does not end them.
class FrozenTest : public ::testing::TestWithParam<bool> {};

TEST_P(FrozenTest, TurnsHealthWithinTwoSecondsAndFailsItsStreams) {
  const bool takes_the_engine_thread = GetParam();
  Server* server = nullptr;
  TestServerOptions options;
  options.fake.step_time = absl::Milliseconds(1);
  options.engine.on_failure = [&](const EngineFailure&) { server->Fail(); };
  TestServer running(options);
  server = &running.server();
  HealthWatch health(running.NewChannel());
  EXPECT_EQ(health.Next(), HealthCheckResponse::SERVING);
  grpc::ClientContext context;
  auto reader = running.inference().Generate(&context, TokensRequest({300}, 0));
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));

  const absl::Time frozen = absl::Now();
  if (takes_the_engine_thread) {
    running.fake().Hang(true);
  } else {
    running.fake().Stall(true);
  }
  EXPECT_EQ(health.Next(), HealthCheckResponse::NOT_SERVING);
  EXPECT_LT(absl::Now() - frozen, absl::Seconds(2));
  EXPECT_EQ(server->load().state, ServerLoad::State::kFailed);
  if (takes_the_engine_thread) server->EndCalls(running.engine().Health());
  while (reader->Read(&response)) {
  }
  const Failure failure = Explain(reader->Finish(), context);
  EXPECT_EQ(failure.code, grpc::INTERNAL);
  EXPECT_EQ(failure.reason, "EXECUTOR_FAILED");
  EXPECT_EQ(Generate(running.inference(), TokensRequest({300}, 1)).failure.reason, "EXECUTOR_FAILED");
  server->SetServing(true);  // not any more
  if (takes_the_engine_thread) running.fake().Hang(false);
  running.fake().Stall(false);
}

INSTANTIATE_TEST_SUITE_P(Executor, FrozenTest, ::testing::Values(false, true),
                         [](const auto& info) { return info.param ? "HoldsTheEngine" : "StandsStill"; });

// Server::Shutdown of gRPC does not return while a callback call is unanswered: here nobody would answer it.
TEST(StartTest, AnUnansweredCallDoesNotHoldTheEnd) {
  std::string folder = ::testing::TempDir() + "/end_XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  TestServerOptions options;
  options.engine.stall_timeout = absl::Minutes(5);
  options.settings.session_store = *SessionStore::Open(folder, 10);
  auto server = std::make_unique<TestServer>(options);
  const std::string id = CreateSession(*server);
  ASSERT_TRUE(Generate(server->inference(), TokensRequest({300}, 40, id)).status.ok());
  server->fake().Stall(true);  // the session's pages never come
  Failure failure;
  std::thread client([&] {
    grpc::ClientContext context;
    v1::SaveSessionRequest request;
    request.set_session_id(id);
    request.set_name("a");
    v1::SaveSessionResponse response;
    failure = Explain(server->sessions().SaveSession(&context, request, &response), context);
  });
  absl::SleepFor(absl::Milliseconds(300));  // until it has arrived; too early would pass too
  const absl::Time start = absl::Now();
  server->server().Stop(absl::Milliseconds(200));
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
  client.join();
  EXPECT_NE(failure.code, 0);
  server->fake().Stall(false);
  server.reset();
  std::filesystem::remove_all(folder);
}

// A client that goes away is answered, whatever becomes of the operation.
TEST(StartTest, ACancelledShortCallEnds) {
  std::string folder = ::testing::TempDir() + "/cancel_XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  TestServerOptions options;
  options.engine.stall_timeout = absl::Minutes(5);
  options.settings.session_store = *SessionStore::Open(folder, 10);
  {
    TestServer server(options);
    const std::string id = CreateSession(server);
    ASSERT_TRUE(Generate(server.inference(), TokensRequest({300}, 40, id)).status.ok());
    server.fake().Stall(true);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
    v1::SaveSessionRequest request;
    request.set_session_id(id);
    request.set_name("a");
    v1::SaveSessionResponse response;
    EXPECT_EQ(server.sessions().SaveSession(&context, request, &response).error_code(), grpc::DEADLINE_EXCEEDED);
    server.fake().Stall(false);
    EXPECT_EQ(server.Idle().sessions, 1);
  }
  std::filesystem::remove_all(folder);  // nobody writes to it any more
}

}  // namespace
}  // namespace megakernel::testing
