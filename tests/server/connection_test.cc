// Clients that do not read, vanish, stay too long or send too much; and what the log says of calls.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "engine/base/mutex.h"
#include "engine/core/error.h"
#include "tests/server/test_server.h"

namespace megakernel::testing {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(20);

// Keeps what the server says of its calls.
class Records {
 public:
  RequestLog log() {
    return [this](const RequestRecord& record) {
      MutexLock lock(&mutex_);
      records_.push_back(record);
    };
  }
  // The first `count`, once they are there.
  std::vector<RequestRecord> Await(std::size_t count) {
    MutexLock lock(&mutex_);
    EXPECT_TRUE(mutex_.AwaitWithTimeout([&] { return records_.size() >= count; }, kPatience));
    return records_;
  }

 private:
  Mutex mutex_;
  std::vector<RequestRecord> records_;
};

// Everything is produced and waits for a client that takes a window's worth and no more.
TEST(Connection, AClientThatNeverReadsLosesItsCallAndNobodyElse) {
  Records records;
  TestServerOptions options;
  options.settings.write_timeout = absl::Milliseconds(400);
  options.settings.log = records.log();
  options.engine.stream_buffer = 1 << 20;
  options.fake.max_context = 1 << 15;
  options.fake.num_pages = 1 << 12;
  TestServer server(options);
  const std::string session = CreateSession(server);
  grpc::ClientContext context;
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // a window that stays at 64 KiB
  const auto stub = v1::InferenceService::NewStub(grpc::CreateCustomChannel(
      "127.0.0.1:" + std::to_string(server.server().port()), grpc::InsecureChannelCredentials(), arguments));
  v1::GenerateRequest request = TokensRequest({1}, 20000, session);
  request.mutable_output()->set_logprobs(8);
  auto reader = stub->Generate(&context, request);
  // The deadline is the write's, so calls beside it go on for as long as they like.
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Generate(server.inference(), TokensRequest({5, 6}, 10)).status.ok());
  EXPECT_TRUE(server.server().WaitCalls(kPatience));
  const RequestRecord record = records.Await(4).back();
  EXPECT_EQ(record.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(record.status), ErrorReason::kSlowConsumer);
  EXPECT_EQ(record.session_id, session);
  for (v1::GenerateResponse response; reader->Read(&response);) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  // The session is there and goes on.
  const int length = GetSession(server, session).session().length();
  EXPECT_GT(length, 1);
  const Generated rest = Generate(server.inference(), TokensRequest({}, 5, session));
  EXPECT_TRUE(rest.status.ok()) << rest.status.error_message();
  EXPECT_EQ(rest.started.prompt_tokens(), length);
}

TEST(Connection, APeerWithoutASignOfLifeIsLetGo) {
  TestServerOptions options;
  options.settings.keepalive_time = absl::Seconds(1);
  options.settings.keepalive_timeout = absl::Milliseconds(200);
  TestServer server(options);
  const int peer = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(server.server().port()));
  ASSERT_EQ(connect(peer, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  const timeval limit = {.tv_sec = 15, .tv_usec = 0};
  setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  // HTTP/2's first words and empty settings; pings are never answered.
  const std::string hello("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);
  ASSERT_EQ(write(peer, hello.data(), hello.size()), static_cast<ssize_t>(hello.size()));
  const absl::Time start = absl::Now();
  char buffer[256];
  ssize_t size;
  while ((size = recv(peer, buffer, sizeof(buffer), 0)) > 0) {
  }
  EXPECT_EQ(size, 0) << "still connected";
  EXPECT_GE(absl::Now() - start, absl::Seconds(1));
  close(peer);
}

TEST(Connection, AnOldConnectionIsReplacedAndItsCallsGoOn) {
  TestServerOptions options;
  options.settings.max_connection_age = absl::Milliseconds(300);
  options.fake.step_time = absl::Milliseconds(2);
  TestServer server(options);
  const auto channel = server.NewChannel();
  const auto stub = v1::InferenceService::NewStub(channel);
  // Longer than the connection may get old.
  const Generated across = Generate(*stub, TokensRequest({1, 2}, 400));
  EXPECT_TRUE(across.status.ok()) << across.status.error_message();
  EXPECT_EQ(across.tokens.size(), 400u);
  const absl::Time limit = absl::Now() + kPatience;
  while (channel->GetState(false) == GRPC_CHANNEL_READY && absl::Now() < limit) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_NE(channel->GetState(false), GRPC_CHANNEL_READY);
  EXPECT_TRUE(Generate(*stub, TokensRequest({1, 2}, 3)).status.ok());
}

TEST(Connection, ARequestOverTheLimitIsRefused) {
  TestServerOptions options;
  options.settings.max_request_bytes = 4096;
  TestServer server(options);
  EXPECT_TRUE(Generate(server.inference(), TextRequest(std::string(2000, 'x'), 2)).status.ok());
  const Generated refused = Generate(server.inference(), TextRequest(std::string(5000, 'x'), 2));
  EXPECT_EQ(refused.status.error_code(), grpc::RESOURCE_EXHAUSTED) << refused.status.error_message();
}

TEST(Connection, EveryCallLeavesOneRecord) {
  Records records;
  TestServerOptions options;
  options.settings.log = records.log();
  options.fake.step_time = absl::Milliseconds(1);
  TestServer server(options);
  // Enough steps that a busy machine does not find them all done at one look.
  v1::GenerateRequest request = TokensRequest({10, 11, 12}, 100);
  request.set_request_id("a-request");
  EXPECT_TRUE(Generate(server.inference(), request).status.ok());
  const RequestRecord good = records.Await(1).back();
  EXPECT_STREQ(good.method, "Generate");
  EXPECT_EQ(good.request_id, "a-request");
  EXPECT_TRUE(good.status.ok());
  EXPECT_EQ(good.prompt_tokens, 3);
  EXPECT_EQ(good.output_tokens, 100);
  EXPECT_GT(good.decode, absl::ZeroDuration());
  EXPECT_GE(good.total, good.queue + good.prefill + good.decode);

  request.mutable_sampling()->set_top_p(7);
  EXPECT_FALSE(Generate(server.inference(), request).status.ok());
  EXPECT_EQ(records.Await(2).back().status.code(), absl::StatusCode::kInvalidArgument);

  grpc::ClientContext context;
  auto reader = server.inference().Generate(&context, TokensRequest({1}, 0));
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  context.TryCancel();
  reader->Finish();
  EXPECT_EQ(records.Await(3).back().status.code(), absl::StatusCode::kCancelled);

  grpc::ClientContext decode_context;
  auto stream = server.inference().Decode(&decode_context);
  v1::DecodeRequest operation;
  operation.mutable_open();
  ASSERT_TRUE(stream->Write(operation));
  operation.mutable_append()->mutable_tokens()->add_ids(10);
  ASSERT_TRUE(stream->Write(operation));
  operation.mutable_decode()->mutable_stopping()->set_max_tokens(4);
  ASSERT_TRUE(stream->Write(operation));
  stream->WritesDone();
  for (v1::DecodeResponse answer; stream->Read(&answer);) EXPECT_FALSE(answer.has_error()) << answer.ShortDebugString();
  EXPECT_TRUE(stream->Finish().ok());
  const RequestRecord decode = records.Await(4).back();
  EXPECT_STREQ(decode.method, "Decode");
  EXPECT_EQ(decode.operations, 2);  // those that run in the engine
  EXPECT_EQ(decode.output_tokens, 4);
  EXPECT_EQ(decode.session_id.size(), 32u);
}

}  // namespace
}  // namespace megakernel::testing
