#include "tests/engine/cpu/runner.h"

#include <random>

#include "absl/time/clock.h"
#include "engine/base/check.h"
#include "gtest/gtest.h"

namespace megakernel::test {

std::vector<PageId> Runner::Pages(std::int32_t positions) {
  std::vector<PageId> pages(static_cast<std::size_t>(layout::PagesFor(positions, executor_->info().page_tokens)));
  for (PageId& page : pages) page = next_page_++;
  MK_CHECK(next_page_ <= executor_->info().num_pages);
  return pages;
}

std::uint32_t Runner::Start(const Ask& ask) {
  Admit admit;
  while (lane_taken_[admit.lane]) ++admit.lane;
  lane_taken_[admit.lane] = true;
  admit.epoch = next_epoch_++;
  admit.order = admit.epoch;
  admit.tokens = ask.tokens;
  admit.kv_length = ask.kv_length;
  admit.output_start = static_cast<std::int32_t>(ask.tokens.size());
  admit.token_limit = static_cast<std::int32_t>(ask.tokens.size()) + (ask.prefill_only ? 0 : ask.max_tokens);
  admit.prefill_only = ask.prefill_only;
  admit.pages = ask.pages.empty() ? Pages(admit.token_limit) : ask.pages;
  admit.sampling = ask.sampling;
  lane_of_[admit.epoch] = admit.lane;
  outcomes_[admit.epoch];
  const std::uint32_t epoch = admit.epoch;
  const absl::Status status = executor_->Submit(std::move(admit));
  EXPECT_TRUE(status.ok()) << status;
  if (!status.ok()) outcomes_[epoch].finished = true;
  return epoch;
}

int Runner::Pump() {
  executor_->Wait(absl::Milliseconds(100));
  std::vector<Event> events;
  executor_->Drain(events);
  for (const Event& event : events) Take(event);
  return static_cast<int>(events.size());
}

Outcome& Runner::Finish(std::uint32_t epoch) {
  Outcome& outcome = outcomes_[epoch];
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (!outcome.finished) {
    Pump();
    if (absl::Now() > deadline) {
      ADD_FAILURE() << "sequence " << epoch << " does not finish";
      outcome.finished = true;
    }
  }
  return outcome;
}

Outcome& Runner::UntilTokens(std::uint32_t epoch, std::size_t num_tokens) {
  Outcome& outcome = outcomes_[epoch];
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (!outcome.finished && outcome.tokens.size() < num_tokens) {
    Pump();
    if (absl::Now() > deadline) {
      ADD_FAILURE() << "sequence " << epoch << " does not get to " << num_tokens << " tokens";
      break;
    }
  }
  return outcome;
}

std::vector<std::byte> Runner::ReadBytes(const std::vector<PageId>& pages) {
  const std::uint64_t ticket = next_ticket_++;
  EXPECT_TRUE(executor_->Submit(ReadPages{.ticket = ticket, .pages = pages}).ok());
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (!bytes_.contains(ticket) && absl::Now() < deadline) Pump();
  EXPECT_TRUE(bytes_.contains(ticket)) << "no kPages";
  return bytes_[ticket];
}

void Runner::Take(const Event& event) {
  if (event.type == EventType::kStopped) {
    stopped_ = true;
    return;
  }
  if (event.type == EventType::kPages) {
    ASSERT_NE(event.pages, nullptr);
    bytes_[event.pages->ticket] = event.pages->bytes;
    return;
  }
  ASSERT_TRUE(outcomes_.contains(event.epoch));
  ASSERT_EQ(event.lane, lane_of_[event.epoch]);
  Outcome& outcome = outcomes_[event.epoch];
  ASSERT_FALSE(outcome.finished) << "an event after kFinished";
  switch (event.type) {
    case EventType::kStarted:
      ++outcome.started;
      break;
    case EventType::kToken:
      outcome.tokens.push_back(event.token);
      outcome.positions.push_back(event.position);
      if (event.logprobs != nullptr) {
        outcome.logprobs.push_back(event.logprobs->chosen.logprob);
        outcome.details.push_back(*event.logprobs);
      }
      break;
    case EventType::kPromptLogprobs:
      ASSERT_NE(event.logprobs, nullptr);
      outcome.prompt.push_back(event.logprobs->chosen);
      outcome.prompt_at.push_back(event.position);
      break;
    case EventType::kFinished:
      outcome.finished = true;
      outcome.cause = event.cause;
      outcome.kv_length = event.kv_length;
      lane_taken_[event.lane] = false;
      break;
    case EventType::kPages:
    case EventType::kStopped:
      break;
  }
}

Runner NewRunner(const Model& model, const CpuOptions& options) {
  absl::StatusOr<std::unique_ptr<Executor>> executor = NewCpuExecutor(model, options);
  MK_CHECK(executor.ok());
  return Runner(*std::move(executor));
}

std::vector<TokenId> RandomTokens(std::int32_t n, std::int32_t vocab, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<TokenId> tokens(static_cast<std::size_t>(n));
  for (TokenId& token : tokens) token = static_cast<TokenId>(1 + random() % static_cast<std::uint32_t>(vocab - 1));
  return tokens;
}

}  // namespace megakernel::test
