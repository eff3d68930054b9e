// Decode's state machine on engine and fake executor, with a transport in memory: no gRPC, so that the thread sanitizer
// sees every line.
#include "server/decode_call.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/server/call_fixture.h"

namespace megakernel::testing {
namespace {

using Transport = FakeTransport<DecodeCall, v1::DecodeRequest, v1::DecodeResponse>;
using Responses = std::vector<v1::DecodeResponse>;

v1::DecodeRequest Open(std::uint64_t id, const std::string& session = "") {
  v1::DecodeRequest request;
  request.set_operation_id(id);
  request.mutable_open()->set_session_id(session);
  return request;
}

v1::DecodeRequest Append(std::uint64_t id, std::vector<TokenId> tokens) {
  v1::DecodeRequest request;
  request.set_operation_id(id);
  request.mutable_append()->mutable_tokens()->mutable_ids()->Add(tokens.begin(), tokens.end());
  return request;
}

v1::DecodeRequest Decode(std::uint64_t id, int max_tokens) {
  v1::DecodeRequest request;
  request.set_operation_id(id);
  request.mutable_decode()->mutable_sampling()->set_temperature(0);
  request.mutable_decode()->mutable_stopping()->set_max_tokens(max_tokens);
  return request;
}

v1::DecodeRequest RollBack(std::uint64_t id, int length) {
  v1::DecodeRequest request;
  request.set_operation_id(id);
  request.mutable_roll_back()->set_length(length);
  return request;
}

v1::DecodeRequest Cancel(std::uint64_t id) {
  v1::DecodeRequest request;
  request.set_operation_id(id);
  request.mutable_cancel();
  return request;
}

// What operation `id` was answered with, its started and delta messages left out.
std::vector<v1::DecodeResponse> AnswersTo(std::uint64_t id, const Responses& responses) {
  std::vector<v1::DecodeResponse> answers;
  for (const v1::DecodeResponse& response : responses) {
    if (response.operation_id() == id && !response.has_started() && !response.has_delta()) answers.push_back(response);
  }
  return answers;
}

std::vector<TokenId> TokensOf(std::uint64_t id, const Responses& responses) {
  std::vector<TokenId> tokens;
  for (const v1::DecodeResponse& response : responses) {
    if (response.operation_id() != id) continue;
    tokens.insert(tokens.end(), response.delta().token_ids().begin(), response.delta().token_ids().end());
  }
  return tokens;
}

class DecodeCalls : public CallFixture {
 protected:
  using CallFixture::CallFixture;

  void Start(Transport& transport) {
    const auto call = std::make_shared<DecodeCall>(*context_, transport);
    transport.Attach(call);
    call->Start(absl::Now() + absl::Seconds(60));
  }
  std::vector<TokenId> Expected(std::vector<TokenId> prompt, int count) const {
    SamplingParams greedy;
    greedy.temperature = 0;
    return FakeGenerate(fake_, std::move(prompt), greedy, count);
  }
  // Nothing is left of any call.
  void ExpectNothingLeft() {
    EXPECT_TRUE(engine_->WaitIdle(absl::Seconds(30)));
    EXPECT_EQ(live_calls_.size(), 0u);
    // The answer to a session's deletion may still be on its way.
    for (int i = 0; i < 3000 && engine_->Stats().sessions > 0; ++i) absl::SleepFor(absl::Milliseconds(10));
    EXPECT_EQ(engine_->Stats().sessions, 0);
    EXPECT_EQ(engine_->Stats().pages_used, 0);
  }
};

TEST_F(DecodeCalls, ACancelEndsWhatRunsAndTheSessionIsWhatWasHandedOver) {
  Loop loop;
  Transport transport(loop);
  Start(transport);
  transport.Send(Open(1));
  transport.Send(Append(2, {10, 11}));
  transport.Send(Decode(3, 4000));
  transport.AwaitReceived(6);  // it runs
  transport.Send(Cancel(4));
  transport.Send(Decode(5, 3));
  transport.CloseSending();
  EXPECT_TRUE(transport.AwaitDone().ok());
  const Responses responses = transport.received();
  std::uint64_t last = 1;
  for (const v1::DecodeResponse& response : responses) {
    EXPECT_GE(response.operation_id(), last);
    last = response.operation_id();
  }
  EXPECT_EQ(last, 5u);
  const std::vector<TokenId> tokens = TokensOf(3, responses);
  EXPECT_EQ(tokens, Expected({10, 11}, static_cast<int>(tokens.size())));
  const int length = static_cast<int>(2 + tokens.size());
  const v1::GenerationFinished finished = AnswersTo(3, responses).at(0).finished();
  EXPECT_EQ(finished.reason(), v1::FINISH_REASON_CANCELLED);
  EXPECT_EQ(finished.session_length(), length);
  EXPECT_EQ(AnswersTo(4, responses).at(0).cancelled().length(), length);
  std::vector<TokenId> sequence = {10, 11};
  sequence.insert(sequence.end(), tokens.begin(), tokens.end());
  EXPECT_EQ(TokensOf(5, responses), Expected(sequence, 3));
  ExpectNothingLeft();
}

TEST_F(DecodeCalls, GoesOnFromWhereARollbackEnds) {
  Loop loop;
  Transport transport(loop);
  Start(transport);
  transport.Send(Open(1));
  transport.Send(Append(2, {10, 11, 12}));
  transport.Send(Decode(3, 5));
  transport.Send(RollBack(4, 4));
  transport.Send(Decode(5, 6));
  transport.CloseSending();
  EXPECT_TRUE(transport.AwaitDone().ok());
  const Responses responses = transport.received();
  const std::vector<TokenId> first = Expected({10, 11, 12}, 5);
  EXPECT_EQ(TokensOf(3, responses), first);
  EXPECT_EQ(AnswersTo(4, responses).at(0).rolled_back().length(), 4);
  EXPECT_EQ(TokensOf(5, responses), Expected({10, 11, 12, first[0]}, 6));
  EXPECT_EQ(AnswersTo(5, responses).at(0).finished().session_length(), 10);
  ExpectNothingLeft();
}

TEST_F(DecodeCalls, AnErrorAnswersItsOperationAndTheStreamGoesOn) {
  Loop loop;
  Transport transport(loop);
  Start(transport);
  transport.Send(Decode(1, 3));  // nothing is open
  transport.Send(Open(2));
  transport.Send(RollBack(3, 7));  // longer than the session
  transport.Send(v1::DecodeRequest());
  transport.Send(Append(5, {10}));
  transport.Send(Decode(6, 2));
  transport.CloseSending();
  EXPECT_TRUE(transport.AwaitDone().ok());
  const Responses responses = transport.received();
  EXPECT_EQ(AnswersTo(1, responses).at(0).error().field(), "open");
  EXPECT_EQ(AnswersTo(3, responses).at(0).error().field(), "roll_back.length");
  EXPECT_EQ(AnswersTo(0, responses).at(0).error().field(), "operation");
  EXPECT_EQ(TokensOf(6, responses), Expected({10}, 2));
  ExpectNothingLeft();
}

TEST_F(DecodeCalls, ManyThreadsBreakingAtEveryPoint) {
  std::vector<std::thread> clients;
  for (int c = 0; c < 6; ++c) {
    clients.emplace_back([this, c] {
      Loop loop;
      for (int i = 0; i < 12; ++i) {
        Transport transport(loop);
        const std::size_t break_after = static_cast<std::size_t>((c * 5 + i) % 14);
        if (break_after > 0) transport.BreakAfter(break_after);
        Start(transport);
        transport.Send(Open(1));
        transport.Send(Append(2, {10, 11}));
        transport.Send(Decode(3, 8));
        transport.Send(RollBack(4, 5));
        transport.Send(Decode(5, 4));
        transport.CloseSending();
        const absl::Status status = transport.AwaitDone();
        if (break_after == 0) {
          EXPECT_TRUE(status.ok()) << status;
          EXPECT_EQ(TokensOf(3, transport.received()), Expected({10, 11}, 8));
        } else {
          EXPECT_TRUE(status.ok() || absl::IsCancelled(status)) << status;
        }
      }
    });
  }
  for (std::thread& client : clients) client.join();
  ExpectNothingLeft();
}

// The client goes at a moment of its own, not of the stream's: also while nothing is written.
TEST_F(DecodeCalls, TheClientGoesAtAnyMoment) {
  Loop loop;
  for (int i = 0; i < 60; ++i) {
    Transport transport(loop);
    Start(transport);
    transport.Send(Open(1));
    transport.Send(Append(2, {10, 11}));
    transport.Send(Decode(3, 4000));
    absl::SleepFor(absl::Microseconds(i * 50));
    transport.Break();
    const absl::Status status = transport.AwaitDone();
    EXPECT_TRUE(absl::IsCancelled(status)) << status;
  }
  ExpectNothingLeft();
}

// A cancel operation is answered without the engine: between the moment it is taken and its answer the client may go.
TEST_F(DecodeCalls, TheClientGoesWhileCancelOperationsAreAnswered) {
  Loop loop;
  for (int i = 0; i < 1000; ++i) {
    Transport transport(loop);
    transport.BreakAfter(static_cast<std::size_t>(1 + i % 3));
    Start(transport);
    transport.Send(Open(1));
    for (std::uint64_t id = 2; id < 10; ++id) transport.Send(Cancel(id));
    const absl::Status status = transport.AwaitDone();
    EXPECT_TRUE(absl::IsCancelled(status)) << status;
  }
  ExpectNothingLeft();
}

TEST_F(DecodeCalls, DrainEndsWhatIsIdleAndLetsTheRestFinish) {
  Loop loop;
  Transport idle(loop), busy(loop);
  Start(idle);
  Start(busy);
  idle.Send(Open(1));
  busy.Send(Open(1));
  busy.Send(Append(2, {10}));
  busy.Send(Decode(3, 500));
  idle.AwaitReceived(1);
  busy.AwaitReceived(4);
  live_calls_.Drain();
  EXPECT_TRUE(absl::IsUnavailable(idle.AwaitDone()));
  EXPECT_TRUE(absl::IsUnavailable(busy.AwaitDone()));
  EXPECT_EQ(TokensOf(3, busy.received()), Expected({10}, 500));
  ExpectNothingLeft();
}

class SlowDecodeCalls : public DecodeCalls {
 protected:
  // Only who does not read at all falls 64 ms behind.
  SlowDecodeCalls() : DecodeCalls(SmallBuffer(), absl::Milliseconds(1)) {}

 private:
  static EngineOptions SmallBuffer() {
    EngineOptions options;
    options.stream_buffer = 64;
    return options;
  }
};

// One client does not read: what piles up is one message at first, then its operation ends; the other does not notice.
TEST_F(SlowDecodeCalls, AReaderThatDoesNotReadLosesItsOperationAndNobodyElseAnything) {
  Loop loop, other_loop;
  Transport slow(loop), other(other_loop);
  Start(slow);
  Start(other);
  for (Transport* transport : {&slow, &other}) {
    transport->Send(Open(1));
    transport->Send(Append(2, {10, 11}));
  }
  slow.AwaitReceived(2);
  slow.HoldWrites(true);
  slow.Send(Decode(3, 300));
  other.Send(Decode(3, 300));
  other.CloseSending();
  EXPECT_TRUE(other.AwaitDone().ok());
  EXPECT_EQ(TokensOf(3, other.received()), Expected({10, 11}, 300));
  ASSERT_TRUE(engine_->WaitIdle(absl::Seconds(30)));
  slow.HoldWrites(false);
  slow.Send(Decode(4, 3));
  slow.CloseSending();
  EXPECT_TRUE(slow.AwaitDone().ok());
  const Responses responses = slow.received();
  const std::vector<TokenId> got = TokensOf(3, responses);
  const v1::OperationError error = AnswersTo(3, responses).at(0).error();
  EXPECT_EQ(error.reason(), "SLOW_CONSUMER");
  EXPECT_EQ(error.length(), static_cast<int>(2 + got.size()));
  // The session goes on after the last token that was handed over.
  std::vector<TokenId> sequence = {10, 11};
  sequence.insert(sequence.end(), got.begin(), got.end());
  EXPECT_EQ(got, Expected({10, 11}, static_cast<int>(got.size())));
  EXPECT_EQ(TokensOf(4, responses), Expected(sequence, 3));
  ExpectNothingLeft();
}

}  // namespace
}  // namespace megakernel::testing
