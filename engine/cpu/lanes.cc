#include "engine/cpu/lanes.h"

#include <algorithm>
#include <utility>

namespace megakernel::cpu {
namespace {

Event MakeEvent(EventType type, std::int32_t lane, std::uint32_t epoch) {
  Event event;
  event.type = type;
  event.lane = lane;
  event.epoch = epoch;
  return event;
}

}  // namespace

Lanes::Lanes(std::int32_t num_lanes, std::int32_t max_rows, std::int32_t page_tokens)
    : page_tokens_(page_tokens), max_rows_(max_rows), sequences_(static_cast<std::size_t>(num_lanes)) {
  table_.num_lanes = num_lanes;
  policy_.max_rows = policy_.prompt_rows_idle = policy_.prompt_rows_busy = max_rows;
}

bool Lanes::Holds(std::int32_t lane, std::uint32_t epoch) const {
  return table_.lanes[lane].state != layout::LaneState::kFree && table_.lanes[lane].epoch == epoch;
}

void Lanes::Start(Admit command, KvStore* poison, std::vector<Event>& events) {
  const auto num_tokens = static_cast<std::int32_t>(command.tokens.size());
  layout::Lane& lane = table_.lanes[command.lane];
  lane = layout::Lane{};
  lane.state = layout::LaneState::kRunning;
  lane.epoch = command.epoch;
  lane.order = command.order;
  lane.num_tokens = lane.prompt_end = num_tokens;
  lane.kv_length = command.kv_length;
  lane.kv_capacity = static_cast<std::int32_t>(command.pages.size()) * page_tokens_;
  lane.token_limit = command.token_limit;
  if (command.prefill_only) lane.flags |= layout::kLanePrefillOnly;
  if (command.sampling.prompt_logprobs >= 0) lane.flags |= layout::kLanePromptLogits;

  Sequence& sequence = sequences_[command.lane];
  sequence.epoch = command.epoch;
  sequence.tokens = std::move(command.tokens);
  sequence.tokens.reserve(static_cast<std::size_t>(command.token_limit));
  sequence.pages = std::move(command.pages);
  sequence.output_start = command.output_start;
  sequence.started = false;
  sequence.sampling = std::move(command.sampling);
  sequence.counts.Reset(sequence.tokens, sequence.output_start, sequence.sampling);
  if (poison != nullptr) poison->Poison(sequence.pages, lane.kv_length);
  if (command.prefill_only && lane.kv_length >= num_tokens - 1) Finish(command.lane, FinishCause::kPrefilled, events);
}

void Lanes::Grant(const GrantPages& command, KvStore* poison) {
  if (!Holds(command.lane, command.epoch)) return;
  std::vector<PageId>& pages = sequences_[command.lane].pages;
  pages.insert(pages.end(), command.pages.begin(), command.pages.end());
  if (poison != nullptr) poison->Poison(pages, table_.lanes[command.lane].kv_capacity);
  table_.lanes[command.lane].kv_capacity = static_cast<std::int32_t>(pages.size()) * page_tokens_;
}

void Lanes::End(const Cancel& command, std::vector<Event>& events) {
  if (Holds(command.lane, command.epoch)) Finish(command.lane, FinishCause::kCancelled, events);
}

void Lanes::SetPolicy(const layout::Policy& policy) {
  policy_ = policy;
  policy_.max_rows = std::min(policy_.max_rows, max_rows_);
}

bool Lanes::Plan(Batch& batch, std::vector<LogitRow>& logit_rows, std::vector<Event>& events) {
  layout::Plan(table_, policy_, step_, plan_);
  if (plan_.num_rows == 0) return false;
  ++step_;
  batch.Clear();
  logit_rows.clear();
  for (std::int32_t s = 0; s < plan_.num_segments; ++s) {
    const layout::Segment& segment = plan_.segments[s];
    Sequence& sequence = sequences_[segment.lane];
    if (!std::exchange(sequence.started, true)) {
      events.push_back(MakeEvent(EventType::kStarted, segment.lane, sequence.epoch));
    }
    const std::int32_t first_row = batch.num_rows();
    batch.Add(sequence.tokens.data() + segment.first_position,
              {first_row, segment.num_rows, segment.first_position, sequence.pages.data()});
    AddLogitRows(segment, first_row, logit_rows);
  }
  return true;
}

void Lanes::AddLogitRows(const layout::Segment& segment, std::int32_t first_row,
                         std::vector<LogitRow>& logit_rows) const {
  for (std::int32_t r = 0; r < segment.num_rows; ++r) {
    LogitRow row;
    row.lane = segment.lane;
    row.row = first_row + r;
    row.position = segment.first_position + r + 1;
    row.samples = (segment.flags & layout::kSegmentSamples) != 0 && r == segment.num_rows - 1;
    row.prompt_logprob =
        (segment.flags & layout::kSegmentAllLogits) != 0 && row.position < table_.lanes[segment.lane].prompt_end;
    if (row.samples || row.prompt_logprob) logit_rows.push_back(std::move(row));
  }
}

void Lanes::Commit(std::vector<LogitRow>& logit_rows, std::vector<Event>& events) {
  layout::Advance(plan_, table_);
  for (LogitRow& row : logit_rows) CommitRow(row, events);
  for (std::int32_t s = 0; s < plan_.num_segments; ++s) {
    const layout::Segment& segment = plan_.segments[s];
    if (table_.lanes[segment.lane].state != layout::LaneState::kStopping) continue;
    const bool sampled = (segment.flags & layout::kSegmentSamples) != 0;
    Finish(segment.lane, sampled ? FinishCause::kLength : FinishCause::kPrefilled, events);
  }
}

void Lanes::CommitRow(LogitRow& row, std::vector<Event>& events) {
  Sequence& sequence = sequences_[row.lane];
  if (row.prompt_logprob) {
    Event event = MakeEvent(EventType::kPromptLogprobs, row.lane, sequence.epoch);
    event.position = row.position;
    event.token = sequence.tokens[row.position];
    event.logprobs = std::move(row.prompt_logprobs);
    events.push_back(std::move(event));
  }
  if (!row.samples) return;
  sequence.tokens.push_back(row.token);
  sequence.counts.AddOutput(row.token);
  Event event = MakeEvent(EventType::kToken, row.lane, sequence.epoch);
  event.position = row.position;
  event.token = row.token;
  event.logprobs = std::move(row.logprobs);
  events.push_back(std::move(event));
  const std::vector<TokenId>& stops = sequence.sampling.stop_tokens;
  if (std::find(stops.begin(), stops.end(), row.token) != stops.end()) {
    Finish(row.lane, FinishCause::kStopToken, events);
  }
}

void Lanes::EndAll(FinishCause cause, std::vector<Event>& events) {
  for (std::int32_t lane = 0; lane < table_.num_lanes; ++lane) {
    if (table_.lanes[lane].state != layout::LaneState::kFree) Finish(lane, cause, events);
  }
}

void Lanes::Finish(std::int32_t lane, FinishCause cause, std::vector<Event>& events) {
  Event event = MakeEvent(EventType::kFinished, lane, table_.lanes[lane].epoch);
  event.cause = cause;
  event.kv_length = table_.lanes[lane].kv_length;
  events.push_back(std::move(event));
  table_.lanes[lane].state = layout::LaneState::kFree;
}

}  // namespace megakernel::cpu
