// The plan of a step: which rows of which lanes the model runs next.
//
// A step is one pass of the model over R rows, 1 <= R <= Policy::max_rows. A row is (lane, position): the token at
// `position` goes in, its key and value are written, and, where the row samples, the token at `position + 1` comes out.
// A lane that generates contributes one row; a lane that still reads its prompt contributes a chunk of rows.
//
// Everything here is plain data and pure functions: no allocation, no clock, no threads, no CUDA headers. The CPU and
// fake executors call it inside themselves; the resident kernel compiles the same header for the device, where one
// warp runs it a step ahead. Deadlines and disconnects never appear: they arrive as cancels.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define MEGAKERNEL_HOST_DEVICE __host__ __device__
#else
#define MEGAKERNEL_HOST_DEVICE
#endif

namespace megakernel::layout {

inline constexpr int kMaxLanes = 128;  // lanes a table can hold; an executor may offer fewer
inline constexpr int kMaxRows = 512;   // rows a step can hold; an executor may offer fewer

enum class LaneState : std::uint32_t {
  kFree = 0,      // no sequence
  kRunning = 1,   // rows are planned as soon as tokens and pages allow
  kStopping = 2,  // the last row is planned; nothing more until the executor has emitted kFinished
};

// One lane: the part of a sequence that planning needs.
// Invariant while running: 0 <= kv_length < num_tokens <= token_limit, kv_length <= kv_capacity.
struct Lane {
  LaneState state = LaneState::kFree;
  std::uint32_t epoch = 0;       // of the sequence that holds the lane; never reused by another one
  std::uint64_t order = 0;       // admission order; older prompts are served first
  std::int32_t num_tokens = 0;   // tokens of the sequence, those promised by planned rows included
  std::int32_t kv_length = 0;    // positions [0, kv_length) are written, or will be by planned steps
  std::int32_t kv_capacity = 0;  // positions that the granted pages hold
  std::int32_t token_limit = 0;  // the lane stops when num_tokens reaches it
  std::int32_t prompt_end = 0;   // num_tokens at admission: rows before prompt_end - 1 are prompt rows
  std::uint32_t flags = 0;       // LaneFlag bits

  friend bool operator==(const Lane&, const Lane&) = default;
};

enum LaneFlag : std::uint32_t {
  kLanePrefillOnly = 1u << 0,   // stop when kv_length == num_tokens - 1; sample nothing
  kLanePromptLogits = 1u << 1,  // every prompt row needs logits (prompt logprobs)
};

struct LaneTable {
  std::int32_t num_lanes = 0;    // lanes in use are among the first num_lanes
  std::int32_t next_decode = 0;  // lane index at which the next decode window starts; Advance moves it
  Lane lanes[kMaxLanes];
};

// What outlives a step. Sent by the engine when it changes, never per step.
struct Policy {
  std::int32_t max_rows = kMaxRows;  // rows a step may have
  // Rows that prompts may take beside d decode rows: prompt_rows_idle when d == 0, prompt_rows_busy otherwise. The
  // second bounds the inter-token time of the streams that are generating; 0 makes prompts wait until none generates.
  std::int32_t prompt_rows_idle = kMaxRows;
  std::int32_t prompt_rows_busy = kMaxRows;
};

enum SegmentFlag : std::uint32_t {
  kSegmentSamples = 1u << 0,    // the last row yields a token
  kSegmentAllLogits = 1u << 1,  // every row needs logits
  kSegmentLast = 1u << 2,       // the lane's last segment: it is kStopping from here on
};

// Consecutive positions of one lane in one step.
struct Segment {
  std::int32_t lane = 0;
  std::int32_t first_position = 0;
  std::int32_t num_rows = 0;
  std::uint32_t flags = 0;  // SegmentFlag bits

  friend bool operator==(const Segment&, const Segment&) = default;
};

struct StepPlan {
  std::uint64_t step = 0;
  std::int32_t num_rows = 0;
  std::int32_t num_segments = 0;
  std::int32_t num_sampled = 0;  // segments with kSegmentSamples
  Segment segments[kMaxLanes];   // decode rows first, then prompt chunks
};

// Rows that the lane could run now: tokens whose key and value are not written, as far as pages reach. A lane that only
// prefills leaves its last token for the step that will sample after it.
MEGAKERNEL_HOST_DEVICE inline std::int32_t PendingRows(const Lane& lane) {
  if (lane.state != LaneState::kRunning) return 0;
  std::int32_t end = (lane.flags & kLanePrefillOnly) ? lane.num_tokens - 1 : lane.num_tokens;
  if (end > lane.kv_capacity) end = lane.kv_capacity;
  return end > lane.kv_length ? end - lane.kv_length : 0;
}

// A lane decodes when its single pending row is the one that samples.
MEGAKERNEL_HOST_DEVICE inline bool IsDecoding(const Lane& lane) {
  return lane.state == LaneState::kRunning && !(lane.flags & kLanePrefillOnly) && lane.kv_length + 1 == lane.num_tokens;
}

// Adds rows [kv_length, kv_length + num_rows) of `lane_index` to the plan.
MEGAKERNEL_HOST_DEVICE inline void AppendSegment(const LaneTable& table, std::int32_t lane_index, std::int32_t num_rows,
                                                 StepPlan& plan) {
  const Lane& lane = table.lanes[lane_index];
  const bool prefill_only = (lane.flags & kLanePrefillOnly) != 0;
  const std::int32_t end = lane.kv_length + num_rows;
  Segment& segment = plan.segments[plan.num_segments++];
  segment.lane = lane_index;
  segment.first_position = lane.kv_length;
  segment.num_rows = num_rows;
  segment.flags = 0;
  if (!prefill_only && end == lane.num_tokens) {
    segment.flags |= kSegmentSamples;
    ++plan.num_sampled;
    if (lane.num_tokens + 1 >= lane.token_limit) segment.flags |= kSegmentLast;
  }
  if (prefill_only && end == lane.num_tokens - 1) segment.flags |= kSegmentLast;
  if ((lane.flags & kLanePromptLogits) && segment.first_position < lane.prompt_end - 1) {
    segment.flags |= kSegmentAllLogits;
  }
  plan.num_rows += num_rows;
}

// Rows of this step that decoding lanes get. Prompts that wait keep one row even when decoding lanes alone fill the
// step (every other step when a step is a single row): else a prompt could wait as long as the longest generation.
MEGAKERNEL_HOST_DEVICE inline std::int32_t DecodeRows(std::int32_t num_decoding, std::int32_t num_prompts,
                                                      const Policy& policy, std::uint64_t step) {
  std::int32_t rows = policy.max_rows;
  if (num_prompts > 0 && policy.prompt_rows_busy > 0) {
    if (rows > 1 || (step & 1) != 0) --rows;
  }
  return num_decoding < rows ? num_decoding : rows;
}

// The first `rows` decoding lanes, cyclically from lane `first`.
MEGAKERNEL_HOST_DEVICE inline void AppendDecodeSegments(const LaneTable& table, std::int32_t first, std::int32_t rows,
                                                        StepPlan& plan) {
  std::int32_t lane = first;
  for (std::int32_t n = 0; n < table.num_lanes && rows > 0; ++n) {
    if (IsDecoding(table.lanes[lane]) && PendingRows(table.lanes[lane]) > 0) {
      AppendSegment(table, lane, 1, plan);
      --rows;
    }
    if (++lane == table.num_lanes) lane = 0;
  }
}

// Shares `budget` rows among `num_prompts` lanes that read their prompts, oldest first.
MEGAKERNEL_HOST_DEVICE inline void AppendPromptSegments(const LaneTable& table, std::int32_t num_prompts,
                                                        std::int32_t budget, StepPlan& plan) {
  const std::int32_t share = budget / num_prompts > 0 ? budget / num_prompts : 1;

  // What the oldest prompts may take beyond their share: all that the others cannot use.
  std::int32_t spare = budget;
  for (std::int32_t i = 0; i < table.num_lanes; ++i) {
    const std::int32_t pending = PendingRows(table.lanes[i]);
    if (pending == 0 || IsDecoding(table.lanes[i])) continue;
    spare -= pending < share ? pending : share;
  }
  if (spare < 0) spare = 0;

  // Oldest first: repeatedly take the prompt with the lowest (order, lane) above the last one served.
  std::int32_t last = -1;
  for (std::int32_t n = 0; n < num_prompts && budget > 0; ++n) {
    std::int32_t oldest = -1;
    for (std::int32_t i = 0; i < table.num_lanes; ++i) {
      const Lane& lane = table.lanes[i];
      if (PendingRows(lane) == 0 || IsDecoding(lane)) continue;
      if (last >= 0 && (lane.order < table.lanes[last].order || (lane.order == table.lanes[last].order && i <= last))) {
        continue;
      }
      if (oldest < 0 || lane.order < table.lanes[oldest].order) oldest = i;
    }
    last = oldest;
    const std::int32_t pending = PendingRows(table.lanes[oldest]);
    std::int32_t rows = pending < share ? pending : share;
    if (rows > budget) rows = budget;
    if (pending > rows && spare > 0) {
      std::int32_t extra = pending - rows < spare ? pending - rows : spare;
      if (extra > budget - rows) extra = budget - rows;
      rows += extra;
      spare -= extra;
    }
    AppendSegment(table, oldest, rows, plan);
    budget -= rows;
  }
}

// plan(LaneTable, Policy, step) -> StepPlan. Deterministic.
//
// Every decoding lane gets its row first. If they do not all fit, a window over the lane indices is served that starts
// where the last one ended, so between two rows of a lane no other lane gets two, whoever joins or leaves. Prompts
// share what the policy leaves them: each waiting prompt, oldest first, gets an equal share (at least one row), and
// what short prompts leave over goes to the oldest. So a short prompt behind a long one is never starved, and a lone
// prompt gets the whole budget. Rows are left over only when nobody can use them.
MEGAKERNEL_HOST_DEVICE inline void Plan(const LaneTable& table, const Policy& policy, std::uint64_t step,
                                        StepPlan& plan) {
  plan.step = step;
  plan.num_rows = 0;
  plan.num_segments = 0;
  plan.num_sampled = 0;

  std::int32_t num_decoding = 0;
  std::int32_t num_prompts = 0;
  for (std::int32_t i = 0; i < table.num_lanes; ++i) {
    if (PendingRows(table.lanes[i]) == 0) continue;
    IsDecoding(table.lanes[i]) ? ++num_decoding : ++num_prompts;
  }
  const std::int32_t decode_rows = DecodeRows(num_decoding, num_prompts, policy, step);
  const bool window = decode_rows < num_decoding && table.next_decode < table.num_lanes;
  AppendDecodeSegments(table, window ? table.next_decode : 0, decode_rows, plan);

  std::int32_t budget = num_decoding == 0 ? policy.prompt_rows_idle : policy.prompt_rows_busy;
  if (budget > policy.max_rows - plan.num_rows) budget = policy.max_rows - plan.num_rows;
  if (num_prompts > 0 && budget > 0) AppendPromptSegments(table, num_prompts, budget, plan);
}

// Moves the table past a planned step, assuming that no sampled token ends its sequence: so the next step can be
// planned while this one runs. A lane that turns out to have ended is taken out by the executor; its row in the step
// after is dead (nothing is written for it that anyone reads, no event).
MEGAKERNEL_HOST_DEVICE inline void Advance(const StepPlan& plan, LaneTable& table) {
  for (std::int32_t s = 0; s < plan.num_segments; ++s) {
    const Segment& segment = plan.segments[s];
    Lane& lane = table.lanes[segment.lane];
    if (IsDecoding(lane)) table.next_decode = segment.lane + 1 < table.num_lanes ? segment.lane + 1 : 0;
    lane.kv_length = segment.first_position + segment.num_rows;
    if (segment.flags & kSegmentSamples) ++lane.num_tokens;
    if (segment.flags & kSegmentLast) lane.state = LaneState::kStopping;
  }
}

}  // namespace megakernel::layout
