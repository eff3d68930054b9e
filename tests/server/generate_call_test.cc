// Generate's state machine on engine and fake executor, with a transport in memory: no gRPC, so that the thread
// sanitizer sees every line.
#include "server/generate_call.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

#include "engine/text/tokenizer.h"
#include "tests/server/call_fixture.h"

namespace megakernel::testing {
namespace {

using Transport = FakeTransport<GenerateCall, v1::GenerateRequest, v1::GenerateResponse>;

class Calls : public CallFixture {
 protected:
  static v1::GenerateRequest Request(int max_tokens) {
    v1::GenerateRequest request;
    request.set_text("hello");
    request.mutable_sampling()->set_temperature(0);
    request.mutable_stopping()->set_max_tokens(max_tokens);
    return request;
  }

  // One call from start to OnDone; breaks after `break_after` messages, if that many come.
  absl::Status RunCall(Loop& loop, const v1::GenerateRequest& request, std::size_t break_after,
                       std::vector<TokenId>* tokens) {
    Transport transport(loop);
    const auto call = std::make_shared<GenerateCall>(*context_, transport);
    transport.Attach(call);
    if (break_after > 0) transport.BreakAfter(break_after);
    call->Start(request, absl::Now() + absl::Seconds(60));
    const absl::Status status = transport.AwaitDone();
    for (const v1::GenerateResponse& response : transport.received()) {
      tokens->insert(tokens->end(), response.delta().token_ids().begin(), response.delta().token_ids().end());
    }
    return status;
  }
};

TEST_F(Calls, GenerateDeliversEveryToken) {
  Loop loop;
  std::vector<TokenId> tokens;
  EXPECT_TRUE(RunCall(loop, Request(50), 0, &tokens).ok());
  SamplingParams greedy;
  greedy.temperature = 0;
  EXPECT_EQ(tokens, FakeGenerate(fake_, model_->tokenizer().Encode("hello", false), greedy, 50));
  EXPECT_EQ(write_latency_.count(), 50);
  EXPECT_EQ(live_calls_.size(), 0u);
}

TEST_F(Calls, LongPromptsAreEncodedElsewhere) {
  Loop loop;
  v1::GenerateRequest request = Request(3);
  request.set_text(std::string(kInlinePromptBytes + 100, 'x'));
  std::vector<TokenId> tokens;
  EXPECT_TRUE(RunCall(loop, request, 0, &tokens).ok());
  EXPECT_EQ(tokens.size(), 3u);
}

TEST_F(Calls, ManyThreadsBreakingAtEveryPoint) {
  std::vector<std::thread> clients;
  for (int c = 0; c < 6; ++c) {
    clients.emplace_back([this, c] {
      Loop loop;
      for (int i = 0; i < 12; ++i) {
        const std::size_t break_after = static_cast<std::size_t>((c * 5 + i) % 9);
        std::vector<TokenId> tokens;
        const absl::Status status = RunCall(loop, Request(20), break_after, &tokens);
        if (break_after == 0) {
          EXPECT_TRUE(status.ok()) << status;
          EXPECT_EQ(tokens.size(), 20u);
        } else {
          EXPECT_TRUE(status.ok() || absl::IsCancelled(status)) << status;
        }
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_TRUE(engine_->WaitIdle(absl::Seconds(30)));
  EXPECT_EQ(live_calls_.size(), 0u);
}

TEST_F(Calls, TheEnginesEndIsTheCallsEnd) {
  Loop loop;
  std::thread stopper([this] {
    while (engine_->Stats().output_tokens == 0) absl::SleepFor(absl::Milliseconds(1));
    engine_->Shutdown(absl::ZeroDuration());
  });
  std::vector<TokenId> tokens;
  const absl::Status status = RunCall(loop, Request(4000), 0, &tokens);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  stopper.join();
}

}  // namespace
}  // namespace megakernel::testing
