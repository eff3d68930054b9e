// Tokens, scopes, tenants and quotas over the wire.
#include "server/access.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "google/protobuf/descriptor.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/token_file.h"
#include "tests/server/test_server.h"

namespace megakernel::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kAnna[] = "anna-secret-token-0123";
constexpr char kBert[] = "bert-secret-token-0123";
constexpr char kInferOnly[] = "infer-only-token-0123";
constexpr char kSessionOnly[] = "session-only-token-01";
constexpr char kTokens[] = R"({"tokens": [
  {"tenant": "anna", "scopes": ["infer", "session"], "token": "anna-secret-token-0123", "note": "in plain"},
  {"tenant": "bert", "scopes": ["infer", "session", "admin"],
   "sha256": "HASH"},
  {"tenant": "carl", "scopes": ["infer"], "token": "infer-only-token-0123"},
  {"tenant": "carl", "scopes": ["session"], "token": "session-only-token-01"}]
  LIMITS})";

TokenSet Tokens(const std::string& limits = "") {
  std::string text = kTokens;
  std::string digits;
  for (const std::uint8_t byte : HashToken(kBert)) {
    char two[3];
    std::snprintf(two, sizeof(two), "%02X", byte);
    digits += two;
  }
  text.replace(text.find("HASH"), 4, digits);
  text.replace(text.find("LIMITS"), 6, limits.empty() ? "" : ", \"tenants\": " + limits);
  auto tokens = ParseTokenFile(text, "tokens.json");
  EXPECT_TRUE(tokens.ok()) << tokens.status();
  return *std::move(tokens);
}

// A server that asks for tokens.
class GuardedServer {
 public:
  explicit GuardedServer(const std::string& limits = "", int page_tokens = 64)
      : access_(std::make_shared<const TokenSet>(Tokens(limits))) {
    quotas_.SetLimits(Tokens(limits).limits);
    TestServerOptions options;
    options.fake.page_tokens = page_tokens;
    options.engine.quotas = &quotas_;
    options.settings.access = &access_;
    server_.emplace(options);
  }

  AccessControl& access() { return access_; }
  TestServer& operator*() { return *server_; }
  TestServer* operator->() { return &*server_; }

 private:
  AccessControl access_;
  TenantQuotas quotas_;
  std::optional<TestServer> server_;
};

void Carry(grpc::ClientContext& context, const std::string& token) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
}

struct Outcome {
  Failure failure;
  google::rpc::QuotaFailure quota;
  std::string cached_text;
  v1::GenerationStarted started;
  std::vector<TokenId> tokens;
};

Outcome GenerateAs(TestServer& server, const std::string& token, const v1::GenerateRequest& request) {
  Outcome outcome;
  grpc::ClientContext context;
  Carry(context, token);
  auto reader = server.inference().Generate(&context, request);
  for (v1::GenerateResponse response; reader->Read(&response);) {
    if (response.has_started()) outcome.started = response.started();
    for (const TokenId id : response.delta().token_ids()) outcome.tokens.push_back(id);
  }
  const grpc::Status status = reader->Finish();
  outcome.failure = Explain(status, context);
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  for (const auto& detail : details.details()) detail.UnpackTo(&outcome.quota);
  return outcome;
}

template <typename Request, typename Response>
Failure SessionCall(TestServer& server, const std::string& token,
                    grpc::Status (v1::SessionService::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response& response) {
  grpc::ClientContext context;
  Carry(context, token);
  return Explain((server.sessions().*method)(&context, request, &response), context);
}

Failure CreateAs(TestServer& server, const std::string& token, std::string* id) {
  v1::CreateSessionResponse response;
  const Failure failure =
      SessionCall(server, token, &v1::SessionService::Stub::CreateSession, v1::CreateSessionRequest(), response);
  *id = response.session().session_id();
  return failure;
}

// Calls a method of the API by its name with an empty message.
Failure CallByName(TestServer& server, const std::string& method, const std::string& authorization) {
  grpc::GenericStub stub(server.NewChannel());
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  if (!authorization.empty()) context.AddMetadata("authorization", authorization);
  grpc::CompletionQueue queue;
  auto call = stub.PrepareCall(&context, method, &queue);
  void* tag;
  bool ok;
  call->StartCall(nullptr);
  queue.Next(&tag, &ok);
  call->WriteLast(grpc::ByteBuffer(std::vector<grpc::Slice>{grpc::Slice()}.data(), 1), grpc::WriteOptions(), nullptr);
  queue.Next(&tag, &ok);
  grpc::Status status;
  do {
    grpc::ByteBuffer answer;
    call->Read(&answer, nullptr);
    queue.Next(&tag, &ok);
  } while (ok);
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  return Explain(status, context);
}

std::vector<std::string> MethodsOf(const std::string& service) {
  std::vector<std::string> methods;
  const auto* descriptor = google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(service);
  for (int i = 0; i < descriptor->method_count(); ++i) {
    methods.push_back("/" + service + "/" + descriptor->method(i)->name());
  }
  return methods;
}

TEST(Access, EveryMethodNeedsAToken) {
  GuardedServer server;
  int count = 0;
  for (const char* service : {"megakernel.v1.InferenceService", "megakernel.v1.SessionService"}) {
    for (const std::string& method : MethodsOf(service)) {
      SCOPED_TRACE(method);
      ++count;
      const Failure missing = CallByName(*server, method, "");
      EXPECT_EQ(missing.code, grpc::UNAUTHENTICATED);
      EXPECT_EQ(missing.reason, "TOKEN_MISSING");
      const Failure wrong = CallByName(*server, method, std::string("Bearer ") + kAnna + "4");
      EXPECT_EQ(wrong.code, grpc::UNAUTHENTICATED);
      EXPECT_EQ(wrong.reason, "TOKEN_INVALID");
      EXPECT_THAT(wrong.message, Not(HasSubstr("secret")));
    }
  }
  EXPECT_GE(count, 11);
  EXPECT_EQ(server->engine().Stats().requests, 0);
}

TEST(Access, EveryMethodNeedsItsScope) {
  GuardedServer server;
  for (const std::string& method : MethodsOf("megakernel.v1.InferenceService")) {
    const Failure failure = CallByName(*server, method, std::string("Bearer ") + kSessionOnly);
    EXPECT_EQ(failure.code, grpc::PERMISSION_DENIED) << method;
    EXPECT_EQ(failure.reason, "SCOPE_MISSING") << method;
    EXPECT_THAT(failure.message, HasSubstr("infer")) << method;
  }
  for (const std::string& method : MethodsOf("megakernel.v1.SessionService")) {
    const Failure failure = CallByName(*server, method, std::string("Bearer ") + kInferOnly);
    EXPECT_EQ(failure.code, grpc::PERMISSION_DENIED) << method;
    EXPECT_EQ(failure.reason, "SCOPE_MISSING") << method;
  }
  EXPECT_EQ(GenerateAs(*server, kInferOnly, TokensRequest({10, 11}, 3)).failure.code, grpc::OK);
  std::string id;
  ASSERT_EQ(CreateAs(*server, kSessionOnly, &id).code, grpc::OK);
  // The same tenant's session, by a token that may not name one.
  EXPECT_EQ(GenerateAs(*server, kInferOnly, TokensRequest({10}, 1, id)).failure.reason, "SCOPE_MISSING");
}

TEST(Access, DecodeOpensNamedSessionsWithTheScopeOnly) {
  GuardedServer server;
  std::string id;
  ASSERT_EQ(CreateAs(*server, kSessionOnly, &id).code, grpc::OK);
  grpc::ClientContext context;
  Carry(context, kInferOnly);
  auto stream = server->inference().Decode(&context);
  v1::DecodeRequest request;
  v1::DecodeResponse response;
  request.mutable_open()->set_session_id(id);
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
  EXPECT_EQ(response.error().reason(), "SCOPE_MISSING");
  request.mutable_open()->clear_session_id();  // one of its own
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
  EXPECT_TRUE(response.has_opened());
  stream->WritesDone();
  while (stream->Read(&response)) {
  }
  EXPECT_TRUE(stream->Finish().ok());
}

TEST(Access, HeaderForms) {
  GuardedServer server;
  const std::string method = "/megakernel.v1.InferenceService/GetModel";
  EXPECT_EQ(CallByName(*server, method, std::string("Bearer ") + kAnna).code, grpc::OK);
  EXPECT_EQ(CallByName(*server, method, std::string("bEARER ") + kBert).code, grpc::OK);  // by its hash
  for (const std::string& bad :
       {std::string("Basic ") + kAnna, std::string(kAnna), std::string("Bearer"), std::string("Bearer "),
        std::string("Bearer  ") + kAnna, "Bearer " + std::string(5000, 'x')}) {
    EXPECT_EQ(CallByName(*server, method, bad).reason, "TOKEN_INVALID") << bad.substr(0, 20);
  }
  const std::string_view twice[] = {"Bearer anna-secret-token-0123", "Bearer anna-secret-token-0123"};
  EXPECT_EQ(ReasonOf(server.access().Identify(twice).status()), ErrorReason::kTokenInvalid);
}

TEST(Access, HealthNeedsNone) {
  GuardedServer server;
  auto health = grpc::health::v1::Health::NewStub(server->NewChannel());
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckResponse response;
  EXPECT_TRUE(health->Check(&context, {}, &response).ok());
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);
}

TEST(Access, NewTokensForNewCalls) {
  GuardedServer server;
  ASSERT_EQ(GenerateAs(*server, kAnna, TokensRequest({10}, 1)).failure.code, grpc::OK);
  TokenSet without = Tokens();
  without.entries.erase(without.entries.begin());
  server.access().SetTokens(std::make_shared<const TokenSet>(without));
  EXPECT_EQ(GenerateAs(*server, kAnna, TokensRequest({10}, 1)).failure.reason, "TOKEN_INVALID");
  EXPECT_EQ(GenerateAs(*server, kBert, TokensRequest({10}, 1)).failure.code, grpc::OK);
}

// Anna's secret prompt and session leave no trace that Bert could see.
TEST(Access, TwoTenantsSeeNothingOfEachOther) {
  GuardedServer server("", /*page_tokens=*/4);
  std::vector<TokenId> secret;
  for (TokenId token = 20; token < 61; ++token) secret.push_back(token);
  std::string annas;
  ASSERT_EQ(CreateAs(*server, kAnna, &annas).code, grpc::OK);
  ASSERT_EQ(GenerateAs(*server, kAnna, TokensRequest(secret, 3, annas)).failure.code, grpc::OK);
  ASSERT_EQ(GenerateAs(*server, kAnna, TokensRequest(secret, 3)).started.cached_tokens(), 40);  // the canary sings
  EXPECT_EQ(GenerateAs(*server, kBert, TokensRequest(secret, 3)).started.cached_tokens(), 0);

  using Sessions = v1::SessionService::Stub;
  v1::ListSessionsResponse list;
  ASSERT_EQ(SessionCall(*server, kBert, &Sessions::ListSessions, v1::ListSessionsRequest(), list).code, grpc::OK);
  EXPECT_EQ(list.sessions_size(), 0);
  ASSERT_EQ(SessionCall(*server, kAnna, &Sessions::ListSessions, v1::ListSessionsRequest(), list).code, grpc::OK);
  EXPECT_EQ(list.sessions_size(), 1);

  std::vector<Failure> failures;
  v1::GetSessionRequest get;
  get.set_session_id(annas);
  get.set_include_tokens(true);
  v1::GetSessionResponse got;
  failures.push_back(SessionCall(*server, kBert, &Sessions::GetSession, get, got));
  EXPECT_EQ(got.token_ids_size(), 0);
  v1::ForkSessionRequest fork;
  fork.set_session_id(annas);
  v1::ForkSessionResponse forked;
  failures.push_back(SessionCall(*server, kBert, &Sessions::ForkSession, fork, forked));
  v1::RollbackSessionRequest rollback;
  rollback.set_session_id(annas);
  v1::RollbackSessionResponse rolled;
  failures.push_back(SessionCall(*server, kBert, &Sessions::RollbackSession, rollback, rolled));
  v1::DeleteSessionRequest remove;
  remove.set_session_id(annas);
  v1::DeleteSessionResponse removed;
  failures.push_back(SessionCall(*server, kBert, &Sessions::DeleteSession, remove, removed));
  failures.push_back(GenerateAs(*server, kBert, TokensRequest({}, 3, annas)).failure);
  for (const Failure& failure : failures) {
    EXPECT_EQ(failure.code, grpc::NOT_FOUND);
    EXPECT_EQ(failure.reason, "SESSION_NOT_FOUND");
  }
  // What a session that never was says, word for word.
  std::string never = failures.front().message;
  never.replace(never.find(annas), annas.size(), "0123");
  get.set_session_id("0123");
  EXPECT_EQ(SessionCall(*server, kBert, &Sessions::GetSession, get, got).message, never);
  // And it is as it was.
  get.set_session_id(annas);
  ASSERT_EQ(SessionCall(*server, kAnna, &Sessions::GetSession, get, got).code, grpc::OK);
  EXPECT_EQ(got.session().length(), 44);
}

TEST(Access, QuotasSayWhoseAndWhenToComeBack) {
  GuardedServer server(R"({"anna": {"sessions": 1, "kv_pages": 8, "tokens_per_second": 0.5, "burst_tokens": 100}})", 4);
  std::string id;
  ASSERT_EQ(CreateAs(*server, kAnna, &id).code, grpc::OK);
  const Failure second = CreateAs(*server, kAnna, &id);
  EXPECT_EQ(second.code, grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(second.reason, "QUOTA_EXCEEDED");
  EXPECT_EQ(second.retry_ms, 5000);
  EXPECT_EQ(second.pushback, "5000");
  ASSERT_EQ(CreateAs(*server, kBert, &id).code, grpc::OK);

  const Outcome large = GenerateAs(*server, kAnna, TokensRequest({10}, 40));
  EXPECT_EQ(large.failure.reason, "QUOTA_EXCEEDED");
  EXPECT_EQ(large.failure.pushback, "-1");
  EXPECT_FALSE(large.failure.retry_ms.has_value());
  ASSERT_EQ(large.quota.violations_size(), 1);
  EXPECT_EQ(large.quota.violations(0).subject(), "tenant:anna");
  EXPECT_THAT(large.quota.violations(0).description(), HasSubstr("8"));

  Outcome last;
  for (int i = 0; i < 20 && last.failure.code == grpc::OK; ++i) {
    last = GenerateAs(*server, kAnna, TokensRequest({10, 11, 12, 13}, 20));
  }
  EXPECT_EQ(last.failure.reason, "QUOTA_EXCEEDED");
  ASSERT_TRUE(last.failure.retry_ms.has_value());
  EXPECT_GT(*last.failure.retry_ms, 0);
  EXPECT_LE(*last.failure.retry_ms, 52'000);  // a debt of 25 tokens at most, at half a token a second
  EXPECT_EQ(last.failure.pushback, std::to_string(*last.failure.retry_ms));
  EXPECT_EQ(GenerateAs(*server, kBert, TokensRequest({10}, 40)).failure.code, grpc::OK);
}

}  // namespace
}  // namespace megakernel::testing
