// SessionService over the wire: life, fork, rollback, busy, expiry, pages of the list.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/server/test_server.h"

namespace megakernel::testing {
namespace {

std::vector<TokenId> Expected(const TestServer& server, const std::vector<TokenId>& prompt, int max_tokens) {
  SamplingParams sampling;
  sampling.temperature = 0;
  return FakeGenerate(server.fake_options(), prompt, sampling, max_tokens);
}

Failure Rollback(TestServer& server, const std::string& id, int length, v1::Session* session = nullptr) {
  grpc::ClientContext context;
  v1::RollbackSessionRequest request;
  request.set_session_id(id);
  request.set_length(length);
  v1::RollbackSessionResponse response;
  const Failure failure = Explain(server.sessions().RollbackSession(&context, request, &response), context);
  if (session != nullptr) *session = response.session();
  return failure;
}

Failure Fork(TestServer& server, const std::string& id, int length, v1::Session* session) {
  grpc::ClientContext context;
  v1::ForkSessionRequest request;
  request.set_session_id(id);
  if (length >= 0) request.set_length(length);
  v1::ForkSessionResponse response;
  const Failure failure = Explain(server.sessions().ForkSession(&context, request, &response), context);
  *session = response.session();
  return failure;
}

Failure Delete(TestServer& server, const std::string& id) {
  grpc::ClientContext context;
  v1::DeleteSessionRequest request;
  request.set_session_id(id);
  v1::DeleteSessionResponse response;
  return Explain(server.sessions().DeleteSession(&context, request, &response), context);
}

TEST(Session, LengthCapacityExpiry) {
  TestServer server;
  grpc::ClientContext context;
  v1::CreateSessionRequest request;
  request.mutable_idle_ttl()->set_seconds(60);
  v1::CreateSessionResponse response;
  ASSERT_TRUE(server.sessions().CreateSession(&context, request, &response).ok());
  const v1::Session& created = response.session();
  EXPECT_EQ(created.session_id().size(), 32u);
  EXPECT_EQ(created.session_id().find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(created.length(), 0);
  EXPECT_EQ(created.capacity(), server.engine().max_context());
  EXPECT_EQ(created.expire_time().seconds() - created.create_time().seconds(), 60);
  ASSERT_TRUE(Generate(server.inference(), TokensRequest({10, 11}, 4, created.session_id())).status.ok());
  const v1::Session used = GetSession(server, created.session_id()).session();
  EXPECT_EQ(used.length(), 6);
  EXPECT_EQ(used.kv_length(), 5);
  EXPECT_FALSE(used.busy());
}

TEST(Session, ForkAndRollbackGoOnFromTheirLength) {
  TestServer server;
  const std::string id = CreateSession(server);
  const Generated first = Generate(server.inference(), TokensRequest({10, 11}, 6, id));
  ASSERT_TRUE(first.status.ok());
  std::vector<TokenId> sequence = {10, 11};
  sequence.insert(sequence.end(), first.tokens.begin(), first.tokens.end());
  for (int length = 1; length <= 8; ++length) {
    SCOPED_TRACE(length);
    v1::Session fork;
    ASSERT_EQ(Fork(server, id, length, &fork).code, grpc::OK);
    EXPECT_EQ(fork.length(), length);
    EXPECT_EQ(fork.parent_session_id(), id);
    const std::vector<TokenId> prefix(sequence.begin(), sequence.begin() + length);
    EXPECT_EQ(Generate(server.inference(), TokensRequest({}, 5, fork.session_id())).tokens,
              Expected(server, prefix, 5));
    EXPECT_EQ(Delete(server, fork.session_id()).code, grpc::OK);
  }
  v1::Session rolled;
  ASSERT_EQ(Rollback(server, id, 4, &rolled).code, grpc::OK);
  EXPECT_EQ(rolled.length(), 4);
  const std::vector<TokenId> prefix(sequence.begin(), sequence.begin() + 4);
  EXPECT_EQ(Generate(server.inference(), TokensRequest({}, 5, id)).tokens, Expected(server, prefix, 5));
  EXPECT_EQ(Rollback(server, id, 10).field, "length");
  EXPECT_EQ(Delete(server, id).code, grpc::OK);
  EXPECT_EQ(server.Idle().pages_used, 0);
}

TEST(Session, UnknownExpiredAndBusyAreToldApart) {
  TestServerOptions options;
  options.fake.step_time = absl::Milliseconds(1);
  TestServer server(options);
  const Failure unknown = Delete(server, "0123456789abcdef0123456789abcdef");
  EXPECT_EQ(unknown.code, grpc::NOT_FOUND);
  EXPECT_EQ(unknown.reason, "SESSION_NOT_FOUND");

  const std::string busy = CreateSession(server);
  grpc::ClientContext context;
  auto reader = server.inference().Generate(&context, TokensRequest({1}, 0, busy));
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_TRUE(GetSession(server, busy).session().busy());
  EXPECT_EQ(Rollback(server, busy, 0).reason, "SESSION_BUSY");
  const Generated second = Generate(server.inference(), TokensRequest({2}, 3, busy));
  EXPECT_EQ(second.failure.code, grpc::ABORTED);
  EXPECT_EQ(second.failure.reason, "SESSION_BUSY");
  // Deleting ends what runs.
  EXPECT_EQ(Delete(server, busy).code, grpc::OK);
  while (reader->Read(&response)) EXPECT_FALSE(response.has_finished());
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(Explain(status, context).reason, "SESSION_DELETED") << status.error_message();

  grpc::ClientContext create_context;
  v1::CreateSessionRequest create;
  create.mutable_idle_ttl()->set_seconds(1);
  v1::CreateSessionResponse created;
  ASSERT_TRUE(server.sessions().CreateSession(&create_context, create, &created).ok());
  const absl::Time limit = absl::Now() + absl::Seconds(10);
  while (server.engine().Stats().sessions_expired == 0 && absl::Now() < limit) {
    server.engine().Wake();
    absl::SleepFor(absl::Milliseconds(20));
  }
  const Failure expired = Delete(server, created.session().session_id());
  EXPECT_EQ(expired.code, grpc::NOT_FOUND);
  EXPECT_EQ(expired.reason, "SESSION_EXPIRED");
}

TEST(Session, ListIsInPagesOldestFirst) {
  TestServer server;
  std::vector<std::string> created;
  for (int i = 0; i < 7; ++i) created.push_back(CreateSession(server));
  std::vector<std::string> listed;
  v1::ListSessionsRequest request;
  request.set_page_size(3);
  do {
    grpc::ClientContext context;
    v1::ListSessionsResponse response;
    ASSERT_TRUE(server.sessions().ListSessions(&context, request, &response).ok());
    EXPECT_LE(response.sessions_size(), 3);
    for (const v1::Session& session : response.sessions()) listed.push_back(session.session_id());
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(listed, created);
}

TEST(Session, LimitIsRefusedWithARetryTime) {
  TestServerOptions options;
  options.engine.max_sessions = 1;
  TestServer server(options);
  CreateSession(server);
  grpc::ClientContext context;
  v1::CreateSessionResponse response;
  const Failure failure = Explain(server.sessions().CreateSession(&context, {}, &response), context);
  EXPECT_EQ(failure.code, grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(failure.reason, "SESSION_LIMIT");
  EXPECT_EQ(failure.retry_ms, 5000);
}

}  // namespace
}  // namespace megakernel::testing
