// The Decode stream over the wire: operations in order, cancels, errors that do not end it.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/server/test_server.h"

namespace megakernel::testing {
namespace {

class DecodeStream {
 public:
  explicit DecodeStream(TestServer& server) : server_(server), stream_(server.inference().Decode(&context_)) {}

  void Send(const v1::DecodeRequest& request) { ASSERT_TRUE(stream_->Write(request)); }
  void Open(std::uint64_t id, const std::string& session = "") {
    v1::DecodeRequest request;
    request.set_operation_id(id);
    request.mutable_open()->set_session_id(session);
    Send(request);
  }
  void Append(std::uint64_t id, const std::vector<TokenId>& tokens) {
    v1::DecodeRequest request;
    request.set_operation_id(id);
    request.mutable_append()->mutable_tokens()->mutable_ids()->Add(tokens.begin(), tokens.end());
    Send(request);
  }
  void Decode(std::uint64_t id, int max_tokens) {
    v1::DecodeRequest request;
    request.set_operation_id(id);
    request.mutable_decode()->mutable_sampling()->set_temperature(0);
    if (max_tokens > 0) request.mutable_decode()->mutable_stopping()->set_max_tokens(max_tokens);
    Send(request);
  }
  void RollBack(std::uint64_t id, int length) {
    v1::DecodeRequest request;
    request.set_operation_id(id);
    request.mutable_roll_back()->set_length(length);
    Send(request);
  }
  void Cancel(std::uint64_t id) {
    v1::DecodeRequest request;
    request.set_operation_id(id);
    request.mutable_cancel();
    Send(request);
  }
  v1::DecodeResponse Next() {
    v1::DecodeResponse response;
    EXPECT_TRUE(stream_->Read(&response));
    return response;
  }
  // Reads the answer to one `decode`; `finished` is its end.
  std::vector<TokenId> ReadTokens(std::uint64_t id, v1::GenerationFinished* finished) {
    std::vector<TokenId> tokens;
    for (;;) {
      const v1::DecodeResponse response = Next();
      EXPECT_EQ(response.operation_id(), id);
      if (response.has_delta()) {
        tokens.insert(tokens.end(), response.delta().token_ids().begin(), response.delta().token_ids().end());
      } else if (response.has_finished()) {
        *finished = response.finished();
        return tokens;
      } else if (!response.has_started()) {
        ADD_FAILURE() << response.ShortDebugString();
        return tokens;
      }
    }
  }
  grpc::Status Close() {
    stream_->WritesDone();
    for (v1::DecodeResponse response; stream_->Read(&response);) ADD_FAILURE() << response.ShortDebugString();
    return stream_->Finish();
  }
  grpc::ClientContext& context() { return context_; }
  grpc::ClientReaderWriter<v1::DecodeRequest, v1::DecodeResponse>& stream() { return *stream_; }

 private:
  TestServer& server_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::DecodeRequest, v1::DecodeResponse>> stream_;
};

std::vector<TokenId> Expected(const TestServer& server, const std::vector<TokenId>& prompt, int max_tokens) {
  SamplingParams sampling;
  sampling.temperature = 0;
  return FakeGenerate(server.fake_options(), prompt, sampling, max_tokens);
}

TEST(Decode, OperationsAreAnsweredInOrder) {
  TestServer server;
  DecodeStream stream(server);
  // All sent before anything is read.
  stream.Open(1);
  stream.Append(2, {10, 11, 12});
  stream.Decode(3, 4);
  stream.RollBack(4, 5);
  stream.Append(5, {30});
  stream.Decode(6, 3);
  const v1::DecodeResponse opened = stream.Next();
  EXPECT_EQ(opened.operation_id(), 1u);
  EXPECT_EQ(opened.opened().session_id().size(), 32u);
  const v1::DecodeResponse appended = stream.Next();
  EXPECT_EQ(appended.operation_id(), 2u);
  EXPECT_EQ(appended.appended().length(), 3);
  v1::GenerationFinished finished;
  const std::vector<TokenId> first = stream.ReadTokens(3, &finished);
  EXPECT_EQ(first, Expected(server, {10, 11, 12}, 4));
  EXPECT_EQ(finished.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(finished.session_length(), 7);
  const v1::DecodeResponse rolled_back = stream.Next();
  EXPECT_EQ(rolled_back.operation_id(), 4u);
  EXPECT_EQ(rolled_back.rolled_back().length(), 5);
  EXPECT_EQ(stream.Next().appended().length(), 6);
  EXPECT_EQ(stream.ReadTokens(6, &finished), Expected(server, {10, 11, 12, first[0], first[1], 30}, 3));
  EXPECT_EQ(finished.session_length(), 9);
  const std::string session = opened.opened().session_id();
  EXPECT_TRUE(stream.Close().ok());
  // A session of the stream's own goes with it.
  grpc::ClientContext context;
  v1::GetSessionRequest request;
  request.set_session_id(session);
  v1::GetSessionResponse response;
  EXPECT_EQ(server.sessions().GetSession(&context, request, &response).error_code(), grpc::NOT_FOUND);
  EXPECT_EQ(server.Idle().pages_used, 0);
}

TEST(Decode, ExistingSessionStays) {
  TestServer server;
  const std::string session = CreateSession(server);
  {
    DecodeStream stream(server);
    stream.Open(1, session);
    EXPECT_EQ(stream.Next().opened().session_id(), session);
    stream.Append(2, {10});
    EXPECT_EQ(stream.Next().appended().length(), 1);
    EXPECT_TRUE(stream.Close().ok());
  }
  EXPECT_EQ(GetSession(server, session).session().length(), 1);
}

TEST(Decode, CancelEndsWhatRunsAndWhatWaits) {
  TestServerOptions options;
  options.fake.step_time = absl::Milliseconds(1);
  TestServer server(options);
  DecodeStream stream(server);
  stream.Open(1);
  stream.Append(2, {10, 11});
  stream.Next();
  stream.Next();
  stream.Decode(3, 0);
  EXPECT_TRUE(stream.Next().has_started());
  stream.Decode(4, 5);
  stream.Append(5, {40});
  stream.Cancel(6);
  v1::GenerationFinished finished;
  const std::vector<TokenId> tokens = stream.ReadTokens(3, &finished);
  EXPECT_EQ(finished.reason(), v1::FINISH_REASON_CANCELLED);
  EXPECT_EQ(finished.session_length(), 2 + static_cast<int>(tokens.size()));
  for (const std::uint64_t id : {4u, 5u}) {
    const v1::DecodeResponse response = stream.Next();
    EXPECT_EQ(response.operation_id(), id);
    EXPECT_EQ(response.error().code(), grpc::CANCELLED);
    EXPECT_EQ(response.error().reason(), "CANCELLED");
    EXPECT_EQ(response.error().length(), finished.session_length());
  }
  const v1::DecodeResponse cancelled = stream.Next();
  EXPECT_EQ(cancelled.operation_id(), 6u);
  EXPECT_EQ(cancelled.cancelled().length(), finished.session_length());
  // It goes on from there.
  std::vector<TokenId> sequence = {10, 11};
  sequence.insert(sequence.end(), tokens.begin(), tokens.end());
  stream.Decode(7, 3);
  EXPECT_EQ(stream.ReadTokens(7, &finished), Expected(server, sequence, 3));
  EXPECT_TRUE(stream.Close().ok());
}

struct BadOperation {
  const char* name;
  void (*fill)(v1::DecodeRequest&);
  int code;
  const char* reason;
  const char* field;
};

const BadOperation kBadOperations[] = {
    {"open_twice", [](v1::DecodeRequest& r) { r.mutable_open(); }, grpc::INVALID_ARGUMENT, "INVALID_FIELD", "open"},
    {"nothing", [](v1::DecodeRequest&) {}, grpc::INVALID_ARGUMENT, "INVALID_FIELD", "operation"},
    {"append_nothing", [](v1::DecodeRequest& r) { r.mutable_append(); }, grpc::INVALID_ARGUMENT, "INVALID_FIELD",
     "append.content"},
    {"append_token", [](v1::DecodeRequest& r) { r.mutable_append()->mutable_tokens()->add_ids(9999); },
     grpc::INVALID_ARGUMENT, "INVALID_FIELD", "append.tokens.ids[0]"},
    {"append_length",
     [](v1::DecodeRequest& r) {
       r.mutable_append()->set_text("x");
       r.mutable_append()->set_expected_length(77);
     },
     grpc::ABORTED, "LENGTH_MISMATCH", "append.expected_length"},
    {"append_too_much", [](v1::DecodeRequest& r) { r.mutable_append()->set_text(std::string(5000, 'x')); },
     grpc::INVALID_ARGUMENT, "CONTEXT_EXCEEDED", "append"},
    {"decode_top_p", [](v1::DecodeRequest& r) { r.mutable_decode()->mutable_sampling()->set_top_p(7); },
     grpc::INVALID_ARGUMENT, "INVALID_FIELD", "decode.sampling.top_p"},
    {"decode_top_k", [](v1::DecodeRequest& r) { r.mutable_decode()->mutable_sampling()->set_top_k(7); },
     grpc::UNIMPLEMENTED, "UNSUPPORTED", "decode.sampling.top_k"},
    {"append_no_tokens", [](v1::DecodeRequest& r) { r.mutable_append()->mutable_tokens(); }, grpc::INVALID_ARGUMENT,
     "INVALID_FIELD", "append.tokens.ids"},
    {"append_no_text", [](v1::DecodeRequest& r) { r.mutable_append()->set_text(""); }, grpc::INVALID_ARGUMENT,
     "INVALID_FIELD", "append.text"},
    {"roll_back_beyond", [](v1::DecodeRequest& r) { r.mutable_roll_back()->set_length(50); }, grpc::INVALID_ARGUMENT,
     "INVALID_FIELD", "roll_back.length"},
    {"roll_back_negative", [](v1::DecodeRequest& r) { r.mutable_roll_back()->set_length(-1); }, grpc::INVALID_ARGUMENT,
     "INVALID_FIELD", "roll_back.length"},
};

TEST(Decode, ErrorsAnswerTheOperationAndTheStreamGoesOn) {
  TestServer server;
  DecodeStream stream(server);
  stream.Append(1, {10});  // before open
  EXPECT_EQ(stream.Next().error().field(), "open");
  stream.Open(2, "0123456789abcdef0123456789abcdef");
  const v1::DecodeResponse unknown = stream.Next();
  EXPECT_EQ(unknown.error().code(), grpc::NOT_FOUND);
  EXPECT_EQ(unknown.error().reason(), "SESSION_NOT_FOUND");
  stream.Open(3);
  EXPECT_TRUE(stream.Next().has_opened());
  stream.Append(4, {10, 11});
  EXPECT_EQ(stream.Next().appended().length(), 2);
  std::uint64_t id = 10;
  for (const BadOperation& bad : kBadOperations) {
    SCOPED_TRACE(bad.name);
    v1::DecodeRequest request;
    request.set_operation_id(++id);
    bad.fill(request);
    stream.Send(request);
    const v1::DecodeResponse response = stream.Next();
    EXPECT_EQ(response.operation_id(), id);
    EXPECT_EQ(response.error().code(), bad.code) << response.ShortDebugString();
    EXPECT_EQ(response.error().reason(), bad.reason);
    EXPECT_EQ(response.error().field(), bad.field);
    EXPECT_EQ(response.error().length(), 2);
  }
  v1::GenerationFinished finished;
  stream.Decode(99, 2);
  EXPECT_EQ(stream.ReadTokens(99, &finished), Expected(server, {10, 11}, 2));
  EXPECT_TRUE(stream.Close().ok());
}

TEST(Decode, EmptySessionCannotGenerate) {
  TestServer server;
  DecodeStream stream(server);
  stream.Open(1);
  stream.Next();
  stream.Decode(2, 3);
  const v1::DecodeResponse response = stream.Next();
  EXPECT_EQ(response.error().code(), grpc::INVALID_ARGUMENT) << response.ShortDebugString();
  EXPECT_TRUE(stream.Close().ok());
}

TEST(Decode, ManyQueuedOperations) {
  TestServer server;
  DecodeStream stream(server);
  stream.Open(0);
  constexpr int kOperations = 500;  // more than the queue holds
  for (int i = 1; i <= kOperations; ++i) stream.Append(static_cast<std::uint64_t>(i), {10});
  EXPECT_TRUE(stream.Next().has_opened());
  for (int i = 1; i <= kOperations; ++i) {
    const v1::DecodeResponse response = stream.Next();
    ASSERT_EQ(response.operation_id(), static_cast<std::uint64_t>(i));
    ASSERT_EQ(response.appended().length(), i);
  }
  EXPECT_TRUE(stream.Close().ok());
}

TEST(Decode, ClientThatGoesTakesItsSessionAlong) {
  TestServerOptions options;
  options.fake.step_time = absl::Milliseconds(1);
  TestServer server(options);
  for (int messages = 1; messages < 8; ++messages) {
    DecodeStream stream(server);
    stream.Open(1);
    stream.Append(2, {10, 11});
    stream.Decode(3, 0);
    for (int i = 0; i < messages; ++i) stream.Next();
    stream.context().TryCancel();
    EXPECT_EQ(stream.stream().Finish().error_code(), grpc::CANCELLED);
  }
  server.Idle();
  const absl::Time limit = absl::Now() + absl::Seconds(10);
  while (server.engine().Stats().sessions > 0 && absl::Now() < limit) absl::SleepFor(absl::Milliseconds(2));
  const EngineStats stats = server.engine().Stats();
  EXPECT_EQ(stats.sessions, 0);
  EXPECT_EQ(stats.pages_used, 0);
}

}  // namespace
}  // namespace megakernel::testing
