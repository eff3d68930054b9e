// A conversation of `megakernel chat` against a server in this process: turns, stopping, taking back, a lost session.
#include "clients/cli/conversation.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "clients/cli/interrupts.h"
#include "clients/cli/reply.h"
#include "clients/cpp/client.h"
#include "tests/clients/stub_server.h"

namespace megakernel::cli {
namespace {

class ConversationTest : public ::testing::Test {
 protected:
  // Before anything starts a thread: a signal must find it blocked everywhere.
  static void SetUpTestSuite() { interrupts_ = new Interrupts; }
  static void TearDownTestSuite() { delete interrupts_; }

  void SetUp() override {
    server_ = std::make_unique<tests::StubServer>();
    auto connected = client::Client::Connect(server_->address());
    ASSERT_TRUE(connected.ok()) << Describe(connected.error());
    client_ = std::move(connected).value();
    v1::GenerateRequest settings;
    settings.mutable_stopping()->set_max_tokens(4);
    conversation_ = std::make_unique<Conversation>(client_.get(), interrupts_, settings, "sys");
    const client::Error error = conversation_->Start(absl::ZeroDuration());
    ASSERT_TRUE(error.ok()) << Describe(error);
  }

  // Says it and returns what was printed.
  std::string Say(const std::string& message, ReplyOutcome* outcome, const ReplyStyle& style = {}) {
    client::CancelToken cancel;
    client::CallOptions options;
    options.cancel = &cancel;
    ::testing::internal::CaptureStdout();
    *outcome = conversation_->Say(message, style, options, &cancel);
    return ::testing::internal::GetCapturedStdout();
  }

  static Interrupts* interrupts_;
  std::unique_ptr<tests::StubServer> server_;
  std::unique_ptr<client::Client> client_;
  std::unique_ptr<Conversation> conversation_;
};

Interrupts* ConversationTest::interrupts_ = nullptr;

TEST_F(ConversationTest, TurnsGrowTheSessionAndTheSystemMessageIsSaidOnce) {
  ReplyOutcome outcome;
  EXPECT_EQ(Say("hello", &outcome), "abcd\n");
  EXPECT_TRUE(outcome.error.ok()) << Describe(outcome.error);
  EXPECT_EQ(outcome.times.tokens, 4);
  EXPECT_GE(outcome.times.first_output, outcome.times.sent);
  EXPECT_EQ(conversation_->length(), 3 + 5 + 4) << "system message, message, reply";
  Say("you", &outcome);
  EXPECT_EQ(conversation_->length(), 12 + 3 + 4);
  EXPECT_EQ(conversation_->last_message(), "you");
}

TEST_F(ConversationTest, UndoAndReset) {
  ReplyOutcome outcome;
  Say("hello", &outcome);
  Say("you", &outcome);
  EXPECT_TRUE(conversation_->Undo().ok());
  EXPECT_EQ(conversation_->length(), 12);
  EXPECT_EQ(conversation_->last_message(), "hello");
  EXPECT_TRUE(conversation_->Undo().ok());
  EXPECT_EQ(conversation_->Undo().code, absl::StatusCode::kNotFound);
  Say("again", &outcome);
  EXPECT_EQ(conversation_->length(), 3 + 5 + 4) << "the system message is said again";
  EXPECT_TRUE(conversation_->Reset().ok());
  EXPECT_EQ(conversation_->length(), 0);
  EXPECT_EQ(server_->num_sessions(), 1) << "the same session, emptied";
}

TEST_F(ConversationTest, ASignalStopsTheReplyAndTheHistoryKeepsWhatWasShown) {
  std::thread person([this] {
    const absl::Time give_up = absl::Now() + absl::Seconds(20);
    while (server_->num_running() == 0 && absl::Now() < give_up) absl::SleepFor(absl::Milliseconds(1));
    absl::SleepFor(absl::Milliseconds(50));  // most likely after the first token; right either way
    kill(getpid(), SIGINT);
  });
  ReplyOutcome outcome;
  Say("slow", &outcome);
  person.join();
  EXPECT_EQ(outcome.signal, SIGINT);
  EXPECT_EQ(outcome.error.code, absl::StatusCode::kCancelled);
  v1::GetSessionRequest get;
  get.set_session_id(conversation_->session_id());
  EXPECT_EQ(conversation_->length(), client_->GetSession(get)->session().length());
  EXPECT_EQ(interrupts_->Take(), 0) << "the signal was used up";
  Say("hello", &outcome);
  EXPECT_TRUE(outcome.error.ok()) << "the conversation goes on: " << Describe(outcome.error);
}

TEST_F(ConversationTest, AFailedTurnThatChangedNothingIsNoTurn) {
  ReplyOutcome outcome;
  Say("hello", &outcome);
  const int length = conversation_->length();
  EXPECT_EQ(Say("busy", &outcome), "");
  EXPECT_EQ(outcome.error.reason, "QUEUE_FULL");
  EXPECT_EQ(conversation_->length(), length);
  EXPECT_EQ(conversation_->last_message(), "hello");
}

TEST_F(ConversationTest, AnExpiredSessionIsSaidAndResetMakesANewOne) {
  ReplyOutcome outcome;
  Say("hello", &outcome);
  const std::string old = conversation_->session_id();
  server_->ExpireSessions();
  EXPECT_EQ(Say("you", &outcome), "");
  EXPECT_EQ(outcome.error.reason, "SESSION_EXPIRED");
  EXPECT_TRUE(conversation_->Reset().ok());
  EXPECT_NE(conversation_->session_id(), old);
  EXPECT_EQ(Say("you", &outcome), "abcd\n");
}

TEST_F(ConversationTest, EndDeletesItsOwnSessionOnly) {
  Conversation guest(client_.get(), interrupts_, {}, "");
  ASSERT_TRUE(guest.Join(conversation_->session_id()).ok());
  EXPECT_TRUE(guest.End().ok());
  EXPECT_EQ(server_->num_sessions(), 1);
  EXPECT_TRUE(conversation_->End().ok());
  EXPECT_EQ(server_->num_sessions(), 0);
  EXPECT_EQ(guest.Join("session-99").reason, "SESSION_NOT_FOUND");
}

TEST_F(ConversationTest, JsonPrintsOneObjectPerLine) {
  ReplyStyle style;
  style.json = true;
  style.stats = true;
  ReplyOutcome outcome;
  const std::string printed = Say("hello", &outcome, style);
  EXPECT_EQ(std::count(printed.begin(), printed.end(), '\n'), 1 + 4 + 1 + 1) << printed;
  EXPECT_NE(printed.find("{\"started\":"), std::string::npos);
  EXPECT_NE(printed.find("{\"stats\":{\"first_token_ms\":"), std::string::npos);
}

TEST(DescribeTimesTest, Rate) {
  ReplyTimes times;
  EXPECT_EQ(DescribeTimes(times), "no output");
  times.sent = absl::UnixEpoch();
  times.first_output = times.sent + absl::Milliseconds(25);
  times.last_output = times.first_output;
  times.tokens = times.first_tokens = 1;
  EXPECT_EQ(DescribeTimes(times), "first token 25.0 ms, 1 tokens");
  times.last_output = times.first_output + absl::Milliseconds(500);
  times.tokens = 101;
  EXPECT_EQ(DescribeTimes(times), "first token 25.0 ms, 101 tokens, 200.0 tokens/s");
}

}  // namespace
}  // namespace megakernel::cli
