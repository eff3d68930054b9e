// Bad requests: each gives the right code, a stable reason and the field at fault, over the wire.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "server/prompt_encoder.h"
#include "tests/server/test_server.h"

namespace megakernel::testing {
namespace {

constexpr int kInvalid = grpc::INVALID_ARGUMENT;
constexpr int kUnimplemented = grpc::UNIMPLEMENTED;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct BadRequest {
  const char* name;
  std::function<void(v1::GenerateRequest&)> spoil;
  int code;
  const char* reason;
  const char* field;
};

const BadRequest kBadRequests[] = {
    {"temperature_negative", [](auto& r) { r.mutable_sampling()->set_temperature(-0.1f); }, kInvalid, "INVALID_FIELD",
     "sampling.temperature"},
    {"temperature_large", [](auto& r) { r.mutable_sampling()->set_temperature(100.5f); }, kInvalid, "INVALID_FIELD",
     "sampling.temperature"},
    {"temperature_nan", [](auto& r) { r.mutable_sampling()->set_temperature(kNan); }, kInvalid, "INVALID_FIELD",
     "sampling.temperature"},
    {"temperature_infinite", [](auto& r) { r.mutable_sampling()->set_temperature(kInfinity); }, kInvalid,
     "INVALID_FIELD", "sampling.temperature"},
    {"top_k_negative", [](auto& r) { r.mutable_sampling()->set_top_k(-1); }, kInvalid, "INVALID_FIELD",
     "sampling.top_k"},
    {"top_k_over_vocabulary", [](auto& r) { r.mutable_sampling()->set_top_k(513); }, kInvalid, "INVALID_FIELD",
     "sampling.top_k"},
    {"top_p_zero", [](auto& r) { r.mutable_sampling()->set_top_p(0); }, kInvalid, "INVALID_FIELD", "sampling.top_p"},
    {"top_p_large", [](auto& r) { r.mutable_sampling()->set_top_p(1.01f); }, kInvalid, "INVALID_FIELD",
     "sampling.top_p"},
    {"top_p_nan", [](auto& r) { r.mutable_sampling()->set_top_p(kNan); }, kInvalid, "INVALID_FIELD", "sampling.top_p"},
    {"min_p_negative", [](auto& r) { r.mutable_sampling()->set_min_p(-1); }, kInvalid, "INVALID_FIELD",
     "sampling.min_p"},
    {"repetition_zero", [](auto& r) { r.mutable_sampling()->set_repetition_penalty(0); }, kInvalid, "INVALID_FIELD",
     "sampling.repetition_penalty"},
    {"presence_infinite", [](auto& r) { r.mutable_sampling()->set_presence_penalty(-kInfinity); }, kInvalid,
     "INVALID_FIELD", "sampling.presence_penalty"},
    {"frequency_large", [](auto& r) { r.mutable_sampling()->set_frequency_penalty(11); }, kInvalid, "INVALID_FIELD",
     "sampling.frequency_penalty"},
    {"bias_nan", [](auto& r) { (*r.mutable_sampling()->mutable_logit_bias())[5] = kNan; }, kInvalid, "INVALID_FIELD",
     "sampling.logit_bias"},
    {"bias_token", [](auto& r) { (*r.mutable_sampling()->mutable_logit_bias())[512] = 1; }, kInvalid, "INVALID_FIELD",
     "sampling.logit_bias"},
    {"bias_many",
     [](auto& r) {
       for (int i = 0; i < 1025; ++i) (*r.mutable_sampling()->mutable_logit_bias())[i] = 1;
     },
     kInvalid, "INVALID_FIELD", "sampling.logit_bias"},
    {"allowed_token", [](auto& r) { r.mutable_sampling()->add_allowed_token_ids(-3); }, kInvalid, "INVALID_FIELD",
     "sampling.allowed_token_ids"},
    {"max_tokens_zero", [](auto& r) { r.mutable_stopping()->set_max_tokens(0); }, kInvalid, "INVALID_FIELD",
     "stopping.max_tokens"},
    {"max_tokens_negative", [](auto& r) { r.mutable_stopping()->set_max_tokens(-7); }, kInvalid, "INVALID_FIELD",
     "stopping.max_tokens"},
    {"max_tokens_over_context", [](auto& r) { r.mutable_stopping()->set_max_tokens(4096); }, kInvalid,
     "CONTEXT_EXCEEDED", "stopping.max_tokens"},
    {"min_over_max_tokens", [](auto& r) { r.mutable_stopping()->set_min_tokens(5); }, kInvalid, "INVALID_FIELD",
     "stopping.min_tokens"},
    {"min_tokens_negative", [](auto& r) { r.mutable_stopping()->set_min_tokens(-5); }, kInvalid, "INVALID_FIELD",
     "stopping.min_tokens"},
    {"stop_empty", [](auto& r) { r.mutable_stopping()->add_stop(""); }, kInvalid, "INVALID_FIELD", "stopping.stop"},
    {"stop_long", [](auto& r) { r.mutable_stopping()->add_stop(std::string(1025, 'x')); }, kInvalid, "INVALID_FIELD",
     "stopping.stop"},
    {"stop_many",
     [](auto& r) {
       for (int i = 0; i < 17; ++i) r.mutable_stopping()->add_stop("x");
     },
     kInvalid, "INVALID_FIELD", "stopping.stop"},
    {"stop_token", [](auto& r) { r.mutable_stopping()->add_stop_token_ids(512); }, kInvalid, "INVALID_FIELD",
     "stopping.stop_token_ids"},
    {"logprobs_negative", [](auto& r) { r.mutable_output()->set_logprobs(-1); }, kInvalid, "INVALID_FIELD",
     "output.logprobs"},
    {"logprobs_many", [](auto& r) { r.mutable_output()->set_logprobs(9); }, kInvalid, "INVALID_FIELD",
     "output.logprobs"},
    {"prompt_logprobs_negative", [](auto& r) { r.mutable_output()->set_prompt_logprobs(-1); }, kInvalid,
     "INVALID_FIELD", "output.prompt_logprobs"},
    {"sequences_zero", [](auto& r) { r.set_num_sequences(0); }, kInvalid, "INVALID_FIELD", "num_sequences"},
    {"sequences_many", [](auto& r) { r.set_num_sequences(17); }, kInvalid, "INVALID_FIELD", "num_sequences"},
    {"sequences_on_session",
     [](auto& r) {
       r.set_num_sequences(2);
       r.set_session_id("0123456789abcdef0123456789abcdef");
     },
     kInvalid, "INVALID_FIELD", "num_sequences"},
    {"request_id_long", [](auto& r) { r.set_request_id(std::string(129, 'r')); }, kInvalid, "INVALID_FIELD",
     "request_id"},
    {"request_id_control", [](auto& r) { r.set_request_id("a\nb"); }, kInvalid, "INVALID_FIELD", "request_id"},
    {"session_id_long", [](auto& r) { r.set_session_id(std::string(65, 's')); }, kInvalid, "INVALID_FIELD",
     "session_id"},
    {"session_unknown", [](auto& r) { r.set_session_id("0123456789abcdef0123456789abcdef"); }, grpc::NOT_FOUND,
     "SESSION_NOT_FOUND", ""},
    {"expected_length_alone", [](auto& r) { r.set_expected_length(1); }, kInvalid, "INVALID_FIELD", "expected_length"},
    {"prompt_missing", [](auto& r) { r.clear_prompt(); }, kInvalid, "INVALID_FIELD", "prompt"},
    {"text_empty", [](auto& r) { r.set_text(""); }, kInvalid, "INVALID_FIELD", "prompt"},
    {"text_long", [](auto& r) { r.set_text(std::string(kMaxTextBytes + 1, 'x')); }, kInvalid, "INVALID_FIELD", "text"},
    {"text_over_context", [](auto& r) { r.set_text(std::string(5000, 'x')); }, kInvalid, "CONTEXT_EXCEEDED",
     "stopping.max_tokens"},
    {"text_over_context_no_max",
     [](auto& r) {
       r.set_text(std::string(5000, 'x'));
       r.mutable_stopping()->clear_max_tokens();
     },
     kInvalid, "CONTEXT_EXCEEDED", "prompt"},
    {"tokens_empty", [](auto& r) { r.mutable_tokens(); }, kInvalid, "INVALID_FIELD", "tokens.ids"},
    {"token_negative", [](auto& r) { r.mutable_tokens()->add_ids(-1); }, kInvalid, "INVALID_FIELD", "tokens.ids[0]"},
    {"token_large",
     [](auto& r) {
       r.mutable_tokens()->add_ids(1);
       r.mutable_tokens()->add_ids(512);
     },
     kInvalid, "INVALID_FIELD", "tokens.ids[1]"},
    {"chat_empty", [](auto& r) { r.mutable_chat(); }, kInvalid, "INVALID_FIELD", "chat.messages"},
    {"chat_role_missing", [](auto& r) { r.mutable_chat()->add_messages()->set_content("hi"); }, kInvalid,
     "INVALID_FIELD", "chat.messages[0].role"},
    {"chat_role_unknown",
     [](auto& r) {
       auto* message = r.mutable_chat()->add_messages();
       message->set_role("wizard");
       message->set_content("hi");
     },
     kInvalid, "INVALID_FIELD", "chat.messages"},
    {"chat_many",
     [](auto& r) {
       for (int i = 0; i < 1025; ++i) r.mutable_chat()->add_messages()->set_role("user");
     },
     kInvalid, "INVALID_FIELD", "chat.messages"},
    {"chat_content_long",
     [](auto& r) {
       auto* message = r.mutable_chat()->add_messages();
       message->set_role("user");
       message->set_content(std::string((1 << 20) + 1, 'x'));
     },
     kInvalid, "INVALID_FIELD", "chat.messages[0].content"},
    {"top_k_not_offered", [](auto& r) { r.mutable_sampling()->set_top_k(5); }, kUnimplemented, "UNSUPPORTED",
     "sampling.top_k"},
    {"top_p_not_offered", [](auto& r) { r.mutable_sampling()->set_top_p(0.5f); }, kUnimplemented, "UNSUPPORTED",
     "sampling.top_p"},
    {"bias_not_offered", [](auto& r) { (*r.mutable_sampling()->mutable_logit_bias())[3] = 1; }, kUnimplemented,
     "UNSUPPORTED", "sampling.logit_bias"},
    {"penalty_not_offered", [](auto& r) { r.mutable_sampling()->set_repetition_penalty(1.2f); }, kUnimplemented,
     "UNSUPPORTED", "sampling.repetition_penalty"},
};

TEST(BadRequests, EachNamesCodeReasonAndField) {
  TestServer server;
  for (const BadRequest& bad : kBadRequests) {
    SCOPED_TRACE(bad.name);
    v1::GenerateRequest request = TextRequest("hello", 4);
    bad.spoil(request);
    const Generated result = Generate(server.inference(), request);
    EXPECT_EQ(result.failure.code, bad.code) << result.failure.message;
    EXPECT_EQ(result.failure.reason, bad.reason);
    EXPECT_EQ(result.failure.domain, "megakernel");
    EXPECT_EQ(result.failure.field, bad.field);
    EXPECT_FALSE(result.failure.message.empty());
    EXPECT_TRUE(result.responses.empty());
  }
  const EngineStats stats = server.Idle();
  EXPECT_EQ(stats.output_tokens, 0);
  EXPECT_EQ(stats.pages_used, 0);
  // And the server still works.
  EXPECT_TRUE(Generate(server.inference(), TextRequest("hello", 4)).status.ok());
}

TEST(BadRequests, ContextErrorHasBothNumbers) {
  TestServer server;
  const Generated result = Generate(server.inference(), TextRequest(std::string(4000, 'x'), 200));
  EXPECT_NE(result.failure.message.find("4000"), std::string::npos) << result.failure.message;
  EXPECT_NE(result.failure.message.find("200"), std::string::npos) << result.failure.message;
  EXPECT_NE(result.failure.message.find("4096"), std::string::npos) << result.failure.message;
}

TEST(BadRequests, MessageOverTheLimitIsRefused) {
  TestServer server;
  grpc::ClientContext context;
  v1::DetokenizeRequest request;
  for (int i = 0; i < 9'000'000; ++i) request.add_token_ids(400);  // two bytes each
  v1::DetokenizeResponse response;
  EXPECT_EQ(server.inference().Detokenize(&context, request, &response).error_code(), grpc::RESOURCE_EXHAUSTED);
}

struct BadText {
  const char* name;
  std::function<grpc::Status(TestServer&, grpc::ClientContext&)> call;
  const char* field;
};

const BadText kBadTexts[] = {
    {"tokenize_nothing",
     [](TestServer& s, grpc::ClientContext& c) {
       v1::TokenizeResponse response;
       return s.inference().Tokenize(&c, {}, &response);
     },
     "input"},
    {"tokenize_long",
     [](TestServer& s, grpc::ClientContext& c) {
       v1::TokenizeRequest request;
       request.set_text(std::string(kMaxTextBytes + 1, 'x'));
       v1::TokenizeResponse response;
       return s.inference().Tokenize(&c, request, &response);
     },
     "text"},
    {"detokenize_range",
     [](TestServer& s, grpc::ClientContext& c) {
       v1::DetokenizeRequest request;
       request.add_token_ids(512);
       v1::DetokenizeResponse response;
       return s.inference().Detokenize(&c, request, &response);
     },
     "token_ids[0]"},
    {"detokenize_many",
     [](TestServer& s, grpc::ClientContext& c) {
       v1::DetokenizeRequest request;
       for (int i = 0; i < (1 << 20) + 1; ++i) request.add_token_ids(5);
       v1::DetokenizeResponse response;
       return s.inference().Detokenize(&c, request, &response);
     },
     "token_ids"},
    {"session_missing",
     [](TestServer& s, grpc::ClientContext& c) {
       v1::GetSessionResponse response;
       return s.sessions().GetSession(&c, {}, &response);
     },
     "session_id"},
    {"ttl_short",
     [](TestServer& s, grpc::ClientContext& c) {
       v1::CreateSessionRequest request;
       request.mutable_idle_ttl()->set_nanos(1000);
       v1::CreateSessionResponse response;
       return s.sessions().CreateSession(&c, request, &response);
     },
     "idle_ttl"},
    {"ttl_malformed",
     [](TestServer& s, grpc::ClientContext& c) {
       v1::CreateSessionRequest request;
       request.mutable_idle_ttl()->set_seconds(5);
       request.mutable_idle_ttl()->set_nanos(-5);
       v1::CreateSessionResponse response;
       return s.sessions().CreateSession(&c, request, &response);
     },
     "idle_ttl"},
    {"page_size",
     [](TestServer& s, grpc::ClientContext& c) {
       v1::ListSessionsRequest request;
       request.set_page_size(1001);
       v1::ListSessionsResponse response;
       return s.sessions().ListSessions(&c, request, &response);
     },
     "page_size"},
    {"page_token",
     [](TestServer& s, grpc::ClientContext& c) {
       v1::ListSessionsRequest request;
       request.set_page_token("never given out");
       v1::ListSessionsResponse response;
       return s.sessions().ListSessions(&c, request, &response);
     },
     "page_token"},
    {"rollback_negative",
     [](TestServer& s, grpc::ClientContext& c) {
       v1::RollbackSessionRequest request;
       request.set_session_id("0123456789abcdef0123456789abcdef");
       request.set_length(-1);
       v1::RollbackSessionResponse response;
       return s.sessions().RollbackSession(&c, request, &response);
     },
     "length"},
    {"fork_beyond",
     [](TestServer& s, grpc::ClientContext& c) {
       v1::ForkSessionRequest request;
       request.set_session_id(CreateSession(s));
       request.set_length(1);
       v1::ForkSessionResponse response;
       return s.sessions().ForkSession(&c, request, &response);
     },
     "length"},
};

TEST(BadRequests, UnaryCalls) {
  TestServer server;
  for (const BadText& bad : kBadTexts) {
    SCOPED_TRACE(bad.name);
    grpc::ClientContext context;
    const Failure failure = Explain(bad.call(server, context), context);
    EXPECT_EQ(failure.code, kInvalid) << failure.message;
    EXPECT_EQ(failure.reason, "INVALID_FIELD");
    EXPECT_EQ(failure.field, bad.field);
  }
}

}  // namespace
}  // namespace megakernel::testing
