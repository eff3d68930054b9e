#include "engine/executor/fake_machine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/layout/kv_page.h"

namespace megakernel {
namespace {

std::uint64_t Mix(std::uint64_t x) {  // splitmix64's finaliser
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

bool Contains(const std::vector<TokenId>& tokens, TokenId token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

}  // namespace

std::uint64_t FakeHash(std::uint64_t prefix, TokenId token) {
  return Mix(prefix ^ Mix(token));
}

TokenId FakeChoose(const FakeOptions& options, const SamplingParams& sampling, std::uint64_t prefix,
                   std::int32_t output_index) {
  std::uint64_t hash = sampling.temperature > 0 ? Mix(prefix ^ Mix(sampling.seed)) : prefix;
  const std::uint64_t range = options.vocab - options.first_token;
  // A token that min_tokens forbids is drawn again; a list of nothing but stop tokens leaves no choice.
  for (int attempt = 0;; ++attempt, hash = Mix(hash)) {
    const TokenId token = sampling.allowed_tokens.empty()
                              ? options.first_token + static_cast<TokenId>(hash % range)
                              : sampling.allowed_tokens[hash % sampling.allowed_tokens.size()];
    if (output_index >= sampling.min_tokens || !Contains(sampling.stop_tokens, token) || attempt == 1000) return token;
  }
}

std::unique_ptr<Logprobs> FakeLogprobs(const FakeOptions& options, std::uint64_t prefix, TokenId token, int top) {
  auto logprobs = std::make_unique<Logprobs>();
  const float likeliest = -static_cast<float>(Mix(prefix) % 1024) / 1024.0f;
  logprobs->chosen = {.token = token, .logprob = likeliest, .rank = 0};
  for (int rank = 0; rank < top; ++rank) {
    logprobs->top.push_back(
        {.token = (token + rank) % options.vocab, .logprob = likeliest - static_cast<float>(rank), .rank = rank});
  }
  return logprobs;
}

FakeMachine::FakeMachine(const FakeOptions& options)
    : options_(options), lanes_(options.max_lanes), pages_(options.num_pages, options.page_tokens) {
  table_.num_lanes = options.max_lanes;
  policy_.max_rows = options.max_rows;
}

void FakeMachine::Break(absl::Status status) {
  if (health_.ok()) health_ = std::move(status);
}

void FakeMachine::Apply(Command& command, std::vector<Event>& events) {
  if (!health_.ok() || stopped_) return;
  if (auto* const admit = std::get_if<Admit>(&command)) Apply(*admit);
  if (auto* const grant = std::get_if<GrantPages>(&command)) Apply(*grant);
  if (auto* const cancel = std::get_if<Cancel>(&command)) Apply(*cancel, events);
  if (auto* const copy = std::get_if<CopyPage>(&command)) Apply(*copy);
  if (auto* const read = std::get_if<ReadPages>(&command)) Apply(*read, events);
  if (auto* const write = std::get_if<WritePages>(&command)) Apply(*write);
  if (auto* const policy = std::get_if<SetPolicy>(&command)) {
    policy_ = policy->policy;
    policy_.max_rows = std::min(policy_.max_rows, options_.max_rows);
  }
  if (std::holds_alternative<Stop>(command)) StopAll(events);
}

void FakeMachine::Apply(Admit& admit) {
  const auto length = static_cast<std::int32_t>(admit.tokens.size());
  const std::int32_t to_run = admit.prefill_only ? length - 1 : length;
  if (admit.lane < 0 || admit.lane >= options_.max_lanes) {
    return Break(absl::InternalError(absl::StrCat("admission to lane ", admit.lane)));
  }
  layout::Lane& entry = table_.lanes[admit.lane];
  if (entry.state != layout::LaneState::kFree) {
    return Break(absl::InternalError(absl::StrCat("admission to lane ", admit.lane, ", which is not free")));
  }
  if (admit.epoch <= last_epoch_)
    return Break(absl::InternalError(absl::StrCat("epoch ", admit.epoch, " came before")));
  if (admit.kv_length < 0 || admit.kv_length >= to_run || admit.token_limit > options_.max_context ||
      (admit.prefill_only ? length > admit.token_limit : length >= admit.token_limit) || admit.output_start > length) {
    return Break(
        absl::InternalError(absl::StrCat("admission with ", admit.kv_length, " of ", length, " positions, output from ",
                                         admit.output_start, ", limit ", admit.token_limit)));
  }
  last_epoch_ = admit.epoch;
  Lane& lane = lanes_[admit.lane];
  lane = Lane();
  if (!AddPages(admit.lane, admit.pages, admit.kv_length)) return;
  std::uint64_t hash = 0;
  for (const TokenId token : admit.tokens) lane.hashes.push_back(hash = FakeHash(hash, token));
  lane.tokens = std::move(admit.tokens);
  lane.sampling = std::move(admit.sampling);
  lane.output_start = admit.output_start;
  entry = {.state = layout::LaneState::kRunning,
           .epoch = admit.epoch,
           .order = admit.order,
           .num_tokens = length,
           .kv_length = admit.kv_length,
           .kv_capacity = static_cast<std::int32_t>(lane.pages.size()) * options_.page_tokens,
           .token_limit = admit.token_limit,
           .prompt_end = length,
           .flags = (admit.prefill_only ? layout::kLanePrefillOnly : 0u) |
                    (lane.sampling.prompt_logprobs >= 0 ? layout::kLanePromptLogits : 0u)};
}

// Adds pages to a lane's table. Those from position `first_writable` on are this lane's alone, and poisoned.
bool FakeMachine::AddPages(std::int32_t lane_idx, const std::vector<PageId>& pages, std::int32_t first_writable) {
  Lane& lane = lanes_[lane_idx];
  for (const PageId page : pages) {
    if (!pages_.Has(page)) {
      Break(absl::InternalError(absl::StrCat("page ", page, " of ", options_.num_pages)));
      return false;
    }
    lane.pages.push_back(page);
    pages_.Hold(page);
  }
  const std::int32_t capacity = static_cast<std::int32_t>(lane.pages.size()) * options_.page_tokens;
  for (std::int32_t i = 0; i < options_.max_lanes; ++i) {
    if (i == lane_idx || table_.lanes[i].state == layout::LaneState::kFree) continue;
    for (std::size_t page = first_writable / options_.page_tokens; page < lane.pages.size(); ++page) {
      const auto& others = lanes_[i].pages;
      if (std::find(others.begin(), others.end(), lane.pages[page]) == others.end()) continue;
      Break(absl::InternalError(absl::StrCat("page ", lane.pages[page], " is given to lane ", lane_idx,
                                             " for writing while lane ", i, " holds it")));
      return false;
    }
  }
  for (std::int32_t position = first_writable; position < capacity; ++position) {
    pages_.Write(lane.pages, position, FakePages::kPoison);
  }
  return true;
}

void FakeMachine::Apply(GrantPages& grant) {
  layout::Lane& entry = table_.lanes[grant.lane];
  if (entry.state == layout::LaneState::kFree || entry.epoch != grant.epoch) return;
  if (!AddPages(grant.lane, grant.pages, entry.kv_capacity)) return;
  entry.kv_capacity = static_cast<std::int32_t>(lanes_[grant.lane].pages.size()) * options_.page_tokens;
}

void FakeMachine::Apply(const Cancel& cancel, std::vector<Event>& events) {
  const layout::Lane& entry = table_.lanes[cancel.lane];
  if (entry.state == layout::LaneState::kFree || entry.epoch != cancel.epoch) return;
  EmitFinished(cancel.lane, FinishCause::kCancelled, events);
}

void FakeMachine::Apply(const CopyPage& copy) {
  if (!pages_.Has(copy.source) || !pages_.Has(copy.target)) {
    return Break(absl::InternalError(absl::StrCat("copy of page ", copy.source, " to ", copy.target)));
  }
  pages_.Copy(copy.source, copy.target);
}

void FakeMachine::Apply(const ReadPages& read, std::vector<Event>& events) {
  Event event;
  event.type = EventType::kPages;
  event.pages = std::make_unique<PageBytes>(PageBytes{.ticket = read.ticket, .bytes = {}});
  for (const PageId page : read.pages) {
    if (!pages_.Has(page)) return Break(absl::InternalError(absl::StrCat("reading of page ", page)));
    const std::span<const std::byte> bytes = pages_.Bytes(page);
    event.pages->bytes.insert(event.pages->bytes.end(), bytes.begin(), bytes.end());
  }
  events.push_back(std::move(event));
}

void FakeMachine::Apply(const WritePages& write) {
  const std::size_t page_bytes = options_.page_tokens * sizeof(std::uint64_t);
  for (std::size_t i = 0; i < write.pages.size(); ++i) {
    const PageId page = write.pages[i];
    if (!pages_.Has(page) || write.bytes.size() != write.pages.size() * page_bytes) {
      return Break(absl::InternalError(absl::StrCat("writing of page ", page, ", ", write.bytes.size(), " bytes for ",
                                                    write.pages.size(), " pages")));
    }
    pages_.Overwrite(page, std::span(write.bytes).subspan(i * page_bytes, page_bytes));
  }
}

void FakeMachine::StopAll(std::vector<Event>& events) {
  for (std::int32_t lane = 0; lane < options_.max_lanes; ++lane) {
    if (table_.lanes[lane].state != layout::LaneState::kFree) EmitFinished(lane, FinishCause::kCancelled, events);
  }
  stopped_ = true;
  Event event;
  event.type = EventType::kStopped;
  events.push_back(std::move(event));
}

bool FakeMachine::HasWork() const {
  if (!health_.ok() || stopped_) return false;
  return std::any_of(table_.lanes, table_.lanes + table_.num_lanes,
                     [](const layout::Lane& lane) { return layout::PendingRows(lane) > 0; });
}

bool FakeMachine::Step(std::vector<Event>& events) {
  if (!HasWork()) return false;
  layout::Plan(table_, policy_, num_steps_++, plan_);
  layout::Advance(plan_, table_);
  num_rows_ += plan_.num_rows;
  for (std::int32_t s = 0; s < plan_.num_segments && health_.ok(); ++s) RunSegment(plan_.segments[s], events);
  return true;
}

void FakeMachine::RunSegment(const layout::Segment& segment, std::vector<Event>& events) {
  Lane& lane = lanes_[segment.lane];
  if (!std::exchange(lane.started, true)) {
    Event event;
    event.type = EventType::kStarted;
    event.lane = segment.lane;
    event.epoch = table_.lanes[segment.lane].epoch;
    events.push_back(std::move(event));
  }
  for (std::int32_t row = 0; row < segment.num_rows; ++row) {
    if (!RunRow(segment.lane, segment.first_position + row)) return;
  }
  if (segment.flags & layout::kSegmentAllLogits) EmitPromptLogprobs(segment.lane, segment, events);
  FinishCause cause = FinishCause::kNone;
  if (segment.flags & layout::kSegmentSamples) cause = EmitToken(segment.lane, events);
  if (cause == FinishCause::kNone && (segment.flags & layout::kSegmentLast)) {
    cause = segment.flags & layout::kSegmentSamples ? FinishCause::kLength : FinishCause::kPrefilled;
  }
  if (cause != FinishCause::kNone) EmitFinished(segment.lane, cause, events);
}

bool FakeMachine::RunRow(std::int32_t lane_idx, std::int32_t position) {
  if (!CheckBefore(lane_idx, position)) return false;
  Lane& lane = lanes_[lane_idx];
  const std::uint64_t before = position == 0 ? 0 : pages_.Read(lane.pages, position - 1);
  pages_.Write(lane.pages, position, FakeHash(before, lane.tokens[position]));
  return true;
}

// Whether the pages hold what they must at all positions before `position`.
bool FakeMachine::CheckBefore(std::int32_t lane_idx, std::int32_t position) {
  Lane& lane = lanes_[lane_idx];
  if (std::exchange(lane.intrusions, pages_.num_intrusions()) != pages_.num_intrusions()) lane.checked = 0;
  for (; lane.checked < position; ++lane.checked) {
    ++num_checks_;
    const std::uint64_t found = pages_.Read(lane.pages, lane.checked);
    if (found == lane.hashes[lane.checked]) continue;
    Break(absl::InternalError(
        absl::StrCat("lane ", lane_idx, ", row ", position, ": position ", lane.checked, " in page ",
                     lane.pages[lane.checked / options_.page_tokens],
                     found == FakePages::kPoison ? " was never written" : " holds another prefix")));
    return false;
  }
  return true;
}

void FakeMachine::EmitPromptLogprobs(std::int32_t lane_idx, const layout::Segment& segment,
                                     std::vector<Event>& events) {
  const Lane& lane = lanes_[lane_idx];
  const layout::Lane& entry = table_.lanes[lane_idx];
  for (std::int32_t row = 0; row < segment.num_rows; ++row) {
    const std::int32_t position = segment.first_position + row + 1;
    if (position >= entry.prompt_end) return;
    Event event;
    event.type = EventType::kPromptLogprobs;
    event.lane = lane_idx;
    event.epoch = entry.epoch;
    event.position = position;
    event.token = lane.tokens[position];
    event.logprobs = FakeLogprobs(options_, lane.hashes[position - 1], event.token, lane.sampling.prompt_logprobs);
    events.push_back(std::move(event));
  }
}

FinishCause FakeMachine::EmitToken(std::int32_t lane_idx, std::vector<Event>& events) {
  Lane& lane = lanes_[lane_idx];
  const auto position = static_cast<std::int32_t>(lane.tokens.size());
  const std::uint64_t prefix = pages_.Read(lane.pages, position - 1);
  const TokenId token = options_.next_token ? options_.next_token(lane.tokens, lane.sampling)
                                            : FakeChoose(options_, lane.sampling, prefix, position - lane.output_start);
  lane.tokens.push_back(token);
  lane.hashes.push_back(FakeHash(prefix, token));
  Event event;
  event.lane = lane_idx;
  event.epoch = table_.lanes[lane_idx].epoch;
  event.position = position;
  event.token = token;
  if (lane.sampling.logprobs >= 0) event.logprobs = FakeLogprobs(options_, prefix, token, lane.sampling.logprobs);
  switch (lie_) {
    case FakeLie::kWrongLane:
      event.lane = options_.max_lanes;
      break;
    case FakeLie::kWrongEpoch:
      ++event.epoch;
      break;
    case FakeLie::kWrongPosition:
      ++event.position;
      break;
    case FakeLie::kTokenOutOfRange:
      event.token = options_.vocab;
      break;
    default:
      break;
  }
  const bool told = lie_ == FakeLie::kWrongLane || lie_ == FakeLie::kWrongEpoch || lie_ == FakeLie::kWrongPosition ||
                    lie_ == FakeLie::kTokenOutOfRange;
  if (told) lie_ = FakeLie::kNone;
  events.push_back(std::move(event));
  if (lie_ == FakeLie::kWrongCause && position + 1 < table_.lanes[lane_idx].token_limit) {
    lie_ = FakeLie::kNone;
    return FinishCause::kLength;
  }
  return Contains(lane.sampling.stop_tokens, token) ? FinishCause::kStopToken : FinishCause::kNone;
}

void FakeMachine::EmitFinished(std::int32_t lane_idx, FinishCause cause, std::vector<Event>& events) {
  layout::Lane& entry = table_.lanes[lane_idx];
  const auto finished = [&] {
    Event event;
    event.type = EventType::kFinished;
    event.cause = cause;
    event.lane = lane_idx;
    event.epoch = entry.epoch;
    event.kv_length = entry.kv_length;
    return event;
  };
  events.push_back(finished());
  const FakeLie lie = lie_;
  if (lie == FakeLie::kKvLengthTooLarge) events.back().kv_length = static_cast<std::int32_t>(entry.num_tokens) + 1;
  if (lie == FakeLie::kFinishTwice) events.push_back(finished());
  if (lie == FakeLie::kEventAfterFinish) {
    Event event;
    event.lane = lane_idx;
    event.epoch = entry.epoch;
    event.position = static_cast<std::int32_t>(lanes_[lane_idx].tokens.size());
    events.push_back(std::move(event));
  }
  if (lie == FakeLie::kKvLengthTooLarge || lie == FakeLie::kFinishTwice || lie == FakeLie::kEventAfterFinish) {
    lie_ = FakeLie::kNone;
  }
  for (const PageId page : lanes_[lane_idx].pages) pages_.Release(page);
  entry = layout::Lane();
  lanes_[lane_idx] = Lane();
}

}  // namespace megakernel
