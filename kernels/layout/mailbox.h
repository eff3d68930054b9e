// What host and resident kernel say to each other, and how the scheduler tells the blocks what a step is.
//
// Command ring: pinned host memory, written by the host, read by the scheduler warp. Event ring: pinned host memory,
// written by the scheduler, read by the host. A line is valid when its `sequence` (1, 2, 3, ... over all lines, never
// reset) is the one expected; it is written last, with release order at system scope, and read first, with acquire.
// Line i of n lies at index (sequence - 1) % n. The host never has more than kCommandLines commands unconsumed
// (MailboxControl::commands_consumed); the kernel never has more than kEventLines events undrained (events_drained): it
// stops planning while fewer than kEventReserve are free. The reserve holds what steps in flight and ending lanes still
// write: at most two events a lane and three a row of two steps.
//
// The kernel returns after kStop (last event kStopped), or when no lane is held after kPark or after
// KernelArgs::park_after_us (last event kParked). Commands that were not consumed then are read by the next launch.
#pragma once

#include <cstdint>

#include "kernels/layout/plan.h"
#include "kernels/layout/program.h"

namespace megakernel::layout {

inline constexpr int kCommandLines = 256;
inline constexpr int kEventLines = 8192;
inline constexpr int kEventReserve = 512;
inline constexpr int kMaxStopTokens = 96;  // of a lane: those of a request and the model's own

enum class CommandType : std::uint32_t { kNone, kAdmit, kGrantPages, kCancel, kCopyPage, kSetPolicy, kPark, kStop };

struct alignas(128) CommandLine {
  CommandType type = CommandType::kNone;
  std::int32_t lane = 0;
  std::uint32_t epoch = 0;
  std::uint32_t lane_flags = 0;  // LaneFlag
  std::uint64_t order = 0;
  std::uint64_t seed = 0;
  std::int32_t num_tokens = 0, kv_length = 0, token_limit = 0;
  std::int32_t num_pages = 0;  // in LaneMemory::pages now, all grants included
  std::int32_t num_stop_tokens = 0;
  std::int32_t top_k = 0;
  float temperature = 0.0f, top_p = 1.0f, min_p = 0.0f;
  std::int32_t source_page = 0, target_page = 0;  // kCopyPage
  Policy policy;                                  // kSetPolicy
  std::uint32_t reserved[7] = {};
  std::uint64_t sequence = 0;
};
static_assert(sizeof(CommandLine) == 128);

enum class EventKind : std::uint32_t { kNone, kStarted, kToken, kFinished, kStopped, kParked };
enum class EventCause : std::uint32_t { kNone, kStopToken, kLength, kPrefilled, kCancelled };

struct alignas(32) EventLine {
  std::uint8_t kind = 0;   // EventKind
  std::uint8_t cause = 0;  // EventCause
  std::uint16_t lane = 0;
  std::uint32_t epoch = 0;
  std::int32_t position = 0;
  std::int32_t token = 0;
  std::int32_t kv_length = 0;
  std::uint32_t reserved = 0;
  std::uint64_t sequence = 0;
};
static_assert(sizeof(EventLine) == 32);

// Pinned host memory. Host writes: events_drained. Kernel writes: the rest.
struct MailboxControl {
  alignas(64) std::uint64_t events_drained = 0;
  alignas(64) std::uint64_t commands_consumed = 0;  // carried out, but for the steps that they lead to
  std::uint64_t heartbeat = 0;     // rises with every completed step and every idle look at the mailbox, never falls
  std::uint64_t steps = 0;         // steps completed since the launch
  std::uint64_t fault = 0;         // 0, or FaultCode << 32 | block << 16 | warp, written before the kernel traps
  std::uint64_t fault_detail = 0;  // what the code says: an epoch, a tile number
};

enum class FaultCode : std::uint32_t {
  kNone,
  kSumTimeout,     // residual words did not become complete
  kPacketTimeout,  // a packet of the awaited epoch did not come
  kTileTimeout,    // a weight tile did not arrive
  kStepTimeout,    // the results of a step did not come to the scheduler
  kSharedBase,     // dynamic shared memory does not start where the kernel was compiled for (detail: where)
};

// Per lane, pinned host memory: written by the host before the command that names it. The host does not touch a lane's
// memory between Admit and the lane's kFinished, but to append pages before a grant.
//   tokens  [max_lanes][max_context] int32
//   pages   [max_lanes][max_pages] int32
//   stops   [max_lanes][kMaxStopTokens] int32
struct LaneMemory {
  const std::int32_t* tokens = nullptr;
  const std::int32_t* pages = nullptr;
  const std::int32_t* stops = nullptr;
};

// A step, as the scheduler hands it to the blocks: packets {value, step number}, read by one warp in one load.
// Packet 0: num_rows | flags << 16. Packets 1, 2: source and target page of a copy step. From kStepRowPackets on,
// kRowPackets for each row.
inline constexpr int kStepPackets = 64;
inline constexpr int kStepHeaderPackets = 8;
inline constexpr int kRowPackets = 7;
static_assert(kStepHeaderPackets + kGpuMaxRows * kRowPackets <= kStepPackets);

enum StepFlag : std::uint32_t {
  kStepHead = 1u << 0,    // some row needs logits: the LM head runs
  kStepLogits = 1u << 1,  // some row samples at a temperature: logits are written to memory
  kStepCopy = 1u << 2,    // no rows: copy a page
  kStepExit = 1u << 3,    // no rows: leave the kernel
};

enum RowFlag : std::uint32_t {
  kRowSamples = 1u << 0,  // yields a token
  kRowGreedy = 1u << 1,
};

struct StepRow {
  std::int32_t lane = 0;
  std::int32_t position = 0;
  std::int32_t token = 0;       // valid when source_row < 0
  std::int32_t source_row = 0;  // row of the step before whose token this row takes, or -1
  std::int32_t first_row = 0;   // row of the segment's first position: rows first_row .. this one are consecutive
  std::uint32_t flags = 0;      // RowFlag
  std::int32_t reserved = 0;
};
static_assert(sizeof(StepRow) == 4 * kRowPackets);

// How a lane samples (sampling.h); filled by the scheduler, read by the block that samples the row.
struct LaneSampling {
  std::uint64_t seed = 0;
  float temperature = 0.0f, top_p = 1.0f, min_p = 0.0f;
  std::int32_t top_k = 0;
};

// What the scheduler keeps of a lane besides the plan's Lane.
struct LaneRecord {
  std::int32_t greedy = 0;
  std::int32_t num_stop_tokens = 0;
  std::int32_t written = 0;     // positions whose keys and values are complete
  std::int32_t last_row = -1;   // its last row in that step
  std::int32_t last_token = 0;  // the token sampled last, once the step's results are in
  std::uint32_t started = 0;
  std::uint64_t last_step = 0;  // last published step with a row of this lane
  EventCause ending = EventCause::kNone;
  std::int32_t stops[kMaxStopTokens] = {};
};

// Device memory, in the workspace; zero at launch.
struct SchedulerState {
  LaneTable table;
  Policy policy;
  StepPlan plans[2];
  LaneRecord lanes[kMaxLanes];
};

}  // namespace megakernel::layout
