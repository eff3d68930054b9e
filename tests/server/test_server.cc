#include "tests/server/test_server.h"

#include <gtest/gtest.h>

#include <latch>
#include <utility>

#include "engine/base/check.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/byte_model.h"

namespace megakernel::testing {

FakeOptions ByteFake() {
  FakeOptions fake;
  fake.vocab = kByteModelVocab;
  fake.first_token = kByteModelFirstWord;
  return fake;
}

TestServer::TestServer(TestServerOptions options)
    : options_(std::move(options)), clock_(options_.clock != nullptr ? *options_.clock : steady_clock_) {
  model_ = NewByteModel(options_.fake.max_context);
  auto fake = std::make_unique<FakeExecutor>(options_.fake);
  fake_ = fake.get();
  auto engine = Engine::Create(options_.engine, model_.get(), std::move(fake), &clock_);
  MK_CHECK(engine.ok());
  engine_ = *std::move(engine);
  ServerSettings settings = options_.settings;
  settings.limits = {.max_context = engine_->max_context(),
                     .max_queue = options_.engine.max_queue,
                     .max_sessions = options_.engine.max_sessions};
  auto server = Server::Start(settings, *engine_, clock_);
  MK_CHECK(server.ok());
  server_ = *std::move(server);
  channel_ = NewChannel();
  inference_ = v1::InferenceService::NewStub(channel_);
  sessions_ = v1::SessionService::NewStub(channel_);
}

TestServer::~TestServer() {
  engine_->Shutdown(absl::ZeroDuration());
  server_->Stop(absl::Milliseconds(200));
}

std::shared_ptr<grpc::Channel> TestServer::NewChannel() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(server_->port()), grpc::InsecureChannelCredentials(),
                                   arguments);
}

EngineStats TestServer::Idle() {
  EXPECT_TRUE(engine_->WaitIdle(absl::Seconds(20)));
  EXPECT_TRUE(server_->WaitCalls(absl::Seconds(20)));
  // Stats are as of the engine's last turn; an answer means that the turn before is in them.
  std::latch turned(1);
  engine_->GetSession(kDefaultTenant, "none", false, [&](const auto&) { turned.count_down(); });
  turned.wait();
  return engine_->Stats();
}

Failure Explain(const grpc::Status& status, const grpc::ClientContext& context) {
  Failure failure;
  failure.code = status.error_code();
  failure.message = status.error_message();
  const auto trailer = context.GetServerTrailingMetadata().find("grpc-retry-pushback-ms");
  if (trailer != context.GetServerTrailingMetadata().end()) {
    failure.pushback.assign(trailer->second.data(), trailer->second.size());
  }
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return failure;
  for (const auto& detail : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    if (detail.UnpackTo(&info)) {
      failure.reason = info.reason();
      failure.domain = info.domain();
    } else if (detail.UnpackTo(&bad_request)) {
      if (bad_request.field_violations_size() > 0) failure.field = bad_request.field_violations(0).field();
    } else if (detail.UnpackTo(&retry)) {
      failure.retry_ms = retry.retry_delay().seconds() * 1000 + retry.retry_delay().nanos() / 1000000;
    }
  }
  return failure;
}

Generated Generate(v1::InferenceService::Stub& stub, const v1::GenerateRequest& request, absl::Duration timeout) {
  Generated result;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  auto reader = stub.Generate(&context, request);
  for (v1::GenerateResponse response; reader->Read(&response);) {
    if (response.has_started()) result.started = response.started();
    if (response.has_delta() && response.delta().index() == 0) {
      result.tokens.insert(result.tokens.end(), response.delta().token_ids().begin(),
                           response.delta().token_ids().end());
      result.text += response.delta().text();
    }
    if (response.has_finished()) result.finished.push_back(response.finished());
    result.responses.push_back(response);
  }
  result.status = reader->Finish();
  result.failure = Explain(result.status, context);
  return result;
}

namespace {

// Greedy: the output is a function of the prompt alone.
v1::GenerateRequest GreedyRequest(int max_tokens, const std::string& session) {
  v1::GenerateRequest request;
  request.set_session_id(session);
  request.mutable_sampling()->set_temperature(0);
  if (max_tokens > 0) request.mutable_stopping()->set_max_tokens(max_tokens);
  return request;
}

}  // namespace

v1::GenerateRequest TokensRequest(const std::vector<TokenId>& tokens, int max_tokens, const std::string& session) {
  v1::GenerateRequest request = GreedyRequest(max_tokens, session);
  if (!tokens.empty()) request.mutable_tokens()->mutable_ids()->Add(tokens.begin(), tokens.end());
  return request;
}

v1::GenerateRequest TextRequest(const std::string& text, int max_tokens, const std::string& session) {
  v1::GenerateRequest request = GreedyRequest(max_tokens, session);
  request.set_text(text);
  return request;
}

std::string CreateSession(TestServer& server) {
  grpc::ClientContext context;
  v1::CreateSessionResponse response;
  const grpc::Status status = server.sessions().CreateSession(&context, {}, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response.session().session_id();
}

v1::GetSessionResponse GetSession(TestServer& server, const std::string& id, bool tokens) {
  grpc::ClientContext context;
  v1::GetSessionRequest request;
  request.set_session_id(id);
  request.set_include_tokens(tokens);
  v1::GetSessionResponse response;
  const grpc::Status status = server.sessions().GetSession(&context, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response;
}

}  // namespace megakernel::testing
