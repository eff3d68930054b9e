#include "tests/bench/lane_driver.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace megakernel::bench {
namespace {

constexpr std::chrono::seconds kPatience{60};

double Seconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

absl::StatusOr<std::vector<PageId>> LaneDriver::PagesOf(std::int32_t lane, std::int32_t num_lanes,
                                                        std::int32_t positions) const {
  const ExecutorInfo& info = executor_.info();
  const std::int32_t share = info.num_pages / num_lanes;
  const std::int32_t needed = layout::PagesFor(positions, info.page_tokens);
  if (needed > share || positions > info.max_context) {
    return absl::InvalidArgumentError(absl::StrCat(positions, " positions in each of ", num_lanes,
                                                   " lanes: a lane has ", share, " pages of ", info.page_tokens,
                                                   " tokens, and a context of ", info.max_context));
  }
  std::vector<PageId> pages(static_cast<std::size_t>(needed));
  for (std::int32_t i = 0; i < needed; ++i) pages[i] = lane * share + i;
  return pages;
}

Admit LaneDriver::NewAdmit(std::int32_t lane, const std::vector<TokenId>& tokens, const std::vector<PageId>& pages) {
  Admit admit;
  admit.lane = lane;
  admit.epoch = next_epoch_++;
  admit.order = admit.epoch;
  admit.tokens = tokens;
  admit.output_start = static_cast<std::int32_t>(tokens.size());
  admit.token_limit = admit.output_start;
  admit.pages = pages;
  return admit;
}

absl::Status LaneDriver::Prefill(const std::vector<TokenId>& tokens, const std::vector<PageId>& pages) {
  if (tokens.size() < 2) return absl::OkStatus();
  Admit admit = NewAdmit(0, tokens, pages);
  admit.prefill_only = true;
  MK_RETURN_IF_ERROR(executor_.Submit(std::move(admit)));
  LaneTimes ignored;
  ignored.seconds.resize(1);
  ignored.tokens.resize(1);
  return Collect(1, Clock::now(), ignored);
}

absl::StatusOr<LaneTimes> LaneDriver::Generate(const std::vector<std::vector<TokenId>>& prompts,
                                               const std::vector<std::vector<PageId>>& pages, int num_tokens,
                                               const SamplingParams& sampling) {
  LaneTimes times;
  times.seconds.resize(prompts.size());
  times.tokens.resize(prompts.size());
  const auto start = Clock::now();
  for (std::size_t lane = 0; lane < prompts.size(); ++lane) {
    Admit admit = NewAdmit(static_cast<std::int32_t>(lane), prompts[lane], pages[lane]);
    admit.kv_length = admit.output_start - 1;
    admit.token_limit += num_tokens;
    admit.sampling = sampling;
    MK_RETURN_IF_ERROR(executor_.Submit(std::move(admit)));
  }
  MK_RETURN_IF_ERROR(Collect(static_cast<int>(prompts.size()), start, times));
  return times;
}

absl::StatusOr<double> LaneDriver::RoundTrip(PageId page) {
  Admit admit = NewAdmit(0, {0, 0}, {page});
  admit.prefill_only = true;
  admit.kv_length = 1;
  const std::uint32_t epoch = admit.epoch;
  LaneTimes ignored;
  ignored.seconds.resize(1);
  ignored.tokens.resize(1);
  const auto start = Clock::now();
  MK_RETURN_IF_ERROR(executor_.Submit(std::move(admit)));
  MK_RETURN_IF_ERROR(executor_.Submit(Cancel{0, epoch}));
  MK_RETURN_IF_ERROR(Collect(1, start, ignored));
  return Seconds(Clock::now() - start);
}

absl::Status LaneDriver::Collect(int lanes, Clock::time_point start, LaneTimes& times) {
  std::vector<Event> events;
  const auto deadline = Clock::now() + kPatience;
  while (lanes > 0) {
    executor_.Wait(absl::Milliseconds(100));
    events.clear();
    executor_.Drain(events);
    const auto now = Clock::now();
    MK_RETURN_IF_ERROR(executor_.Health());
    for (const Event& event : events) {
      if (event.type == EventType::kFinished) --lanes;
      if (event.type != EventType::kToken) continue;
      times.seconds[event.lane].push_back(Seconds(now - start));
      times.tokens[event.lane].push_back(event.token);
    }
    if (now > deadline) return absl::DeadlineExceededError("the executor does not finish");
  }
  return absl::OkStatus();
}

}  // namespace megakernel::bench
