// Health, reflection, GetModel, drain, and two servers that want one port.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "server/byte_model.h"
#include "tests/server/test_server.h"

namespace megakernel::testing {
namespace {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

HealthCheckRequest Service(const std::string& name) {
  HealthCheckRequest request;
  request.set_service(name);
  return request;
}

TEST(Lifecycle, HealthOfEachService) {
  TestServer server;
  const auto stub = grpc::health::v1::Health::NewStub(server.NewChannel());
  for (const char* name : {"", "megakernel.v1.InferenceService", "megakernel.v1.SessionService"}) {
    grpc::ClientContext context;
    HealthCheckResponse response;
    ASSERT_TRUE(stub->Check(&context, Service(name), &response).ok()) << name;
    EXPECT_EQ(response.status(), HealthCheckResponse::SERVING) << name;
  }
  grpc::ClientContext context;
  HealthCheckResponse response;
  EXPECT_EQ(stub->Check(&context, Service("nobody"), &response).error_code(), grpc::NOT_FOUND);
}

TEST(Lifecycle, WatchSeesTheDrain) {
  TestServer server;
  const auto stub = grpc::health::v1::Health::NewStub(server.NewChannel());
  grpc::ClientContext context;
  auto watch = stub->Watch(&context, Service("megakernel.v1.InferenceService"));
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  server.server().Drain();
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  context.TryCancel();
  while (watch->Read(&response)) {
  }
  watch->Finish();
}

TEST(Lifecycle, DrainRefusesNewWorkAndLetsTheOldFinish) {
  TestServerOptions options;
  options.fake.step_time = absl::Milliseconds(1);
  TestServer server(options);
  grpc::ClientContext idle_context;
  auto idle = server.inference().Decode(&idle_context);
  v1::DecodeRequest open;
  open.mutable_open();
  ASSERT_TRUE(idle->Write(open));
  v1::DecodeResponse opened;
  ASSERT_TRUE(idle->Read(&opened));

  grpc::ClientContext context;
  auto reader = server.inference().Generate(&context, TokensRequest({1, 2}, 100));
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  server.server().Drain();
  const Generated refused = Generate(server.inference(), TokensRequest({3}, 4));
  EXPECT_EQ(refused.failure.code, grpc::UNAVAILABLE);
  EXPECT_EQ(refused.failure.reason, "DRAINING");
  // The stream that did nothing is over.
  v1::DecodeResponse nothing;
  EXPECT_FALSE(idle->Read(&nothing));
  const grpc::Status idle_status = idle->Finish();
  EXPECT_EQ(Explain(idle_status, idle_context).reason, "DRAINING") << idle_status.error_message();
  int tokens = 0;
  bool finished = false;
  while (reader->Read(&response)) {
    tokens += response.delta().token_ids_size();
    finished |= response.has_finished();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(tokens, 100);
  EXPECT_TRUE(finished);
  EXPECT_TRUE(server.server().WaitCalls(absl::Seconds(10)));
}

TEST(Lifecycle, StopIsPromptWhateverIsOpen) {
  TestServerOptions options;
  options.fake.step_time = absl::Milliseconds(1);
  auto server = std::make_unique<TestServer>(options);
  const auto channel = server->NewChannel();
  const auto health = grpc::health::v1::Health::NewStub(channel);
  grpc::ClientContext watch_context, generate_context;
  auto watch = health->Watch(&watch_context, Service(""));
  HealthCheckResponse status;
  ASSERT_TRUE(watch->Read(&status));
  auto reader = server->inference().Generate(&generate_context, TokensRequest({1}, 0));
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  const absl::Time start = absl::Now();
  std::thread client([&] {
    while (reader->Read(&response)) {
    }
    EXPECT_EQ(Explain(reader->Finish(), generate_context).reason, "DRAINING");
    while (watch->Read(&status)) {
    }
    watch->Finish();
  });
  server->engine().Shutdown(absl::ZeroDuration());
  EXPECT_TRUE(server->server().WaitCalls(absl::Seconds(10)));
  server->server().Stop(absl::Milliseconds(200));
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
  client.join();
}

TEST(Lifecycle, SecondServerOnThePortFails) {
  TestServer first;
  SteadyClock clock;
  const auto model = NewByteModel(1024);
  auto engine = Engine::Create(EngineOptions(), model.get(), std::make_unique<FakeExecutor>(ByteFake()), &clock);
  ASSERT_TRUE(engine.ok());
  ServerSettings settings;
  settings.listen = "127.0.0.1:" + std::to_string(first.server().port());
  const auto second = Server::Start(settings, **engine, clock);
  ASSERT_FALSE(second.ok());
  const std::string message(second.status().message());
  EXPECT_NE(message.find(settings.listen), std::string::npos) << message;
  EXPECT_NE(message.find("in use"), std::string::npos) << message;
  settings.listen = "no.such.host.invalid:5";
  EXPECT_FALSE(Server::Start(settings, **engine, clock).ok());
}

TEST(Lifecycle, ReflectionFollowsTheSwitch) {
  for (const bool enabled : {true, false}) {
    TestServerOptions options;
    options.settings.reflection = enabled;
    TestServer server(options);
    grpc::GenericStub stub(server.NewChannel());
    grpc::ClientContext context;
    // An empty stream of the reflection service: OK where it exists.
    grpc::CompletionQueue queue;
    auto call = stub.PrepareCall(&context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
    const auto next = [&] {
      void* tag = nullptr;
      bool ok = false;
      queue.Next(&tag, &ok);
    };
    call->StartCall(nullptr);
    next();
    call->WritesDone(nullptr);
    next();
    grpc::Status status;
    call->Finish(&status, nullptr);
    next();
    EXPECT_EQ(status.error_code(), enabled ? grpc::OK : grpc::UNIMPLEMENTED) << status.error_message();
  }
}

TEST(Lifecycle, GetModelTellsWhatTheServerCan) {
  TestServer server;
  grpc::ClientContext context;
  v1::GetModelResponse response;
  ASSERT_TRUE(server.inference().GetModel(&context, {}, &response).ok());
  EXPECT_EQ(response.vocab_size(), kByteModelVocab);
  EXPECT_EQ(response.max_context(), server.engine().max_context());
  EXPECT_EQ(response.instance_id(), server.server().instance_id());
  EXPECT_FALSE(response.version().empty());
  const auto& parameters = response.capabilities().parameters();
  EXPECT_NE(std::find(parameters.begin(), parameters.end(), "sampling.temperature"), parameters.end());
  EXPECT_EQ(std::find(parameters.begin(), parameters.end(), "sampling.top_k"), parameters.end());
  EXPECT_EQ(response.capabilities().max_lanes(), server.fake_options().max_lanes);
}

TEST(Lifecycle, TokenizeRendersConversations) {
  TestServer server;
  grpc::ClientContext context;
  v1::TokenizeRequest request;
  auto* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("hi");
  v1::TokenizeResponse response;
  ASSERT_TRUE(server.inference().Tokenize(&context, request, &response).ok());
  EXPECT_EQ(response.text(), "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(response.token_ids(0), 1);
}

}  // namespace
}  // namespace megakernel::testing
