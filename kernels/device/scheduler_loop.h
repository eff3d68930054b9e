// The scheduler: one thread of one block. Reads commands, plans a step ahead with the same pure function as every other
// executor (kernels/layout/plan.h), hands steps to the blocks, turns their tokens into events.
//
// Step n + 1 is published while step n runs, assuming that no lane ends in n; a lane that did has a dead row in n + 1,
// whose token nobody reads, and its kFinished waits for the end of n + 1. Step n + 2 is published only after the
// results of n are in, so two buffers of everything are enough.
//
// No CUDA in this file: Words says how words are read and written, so that tests run the same code on the processor
// against a simulated device. Args has the members of KernelArgs that are used here (kernel_args.h).
#pragma once

#include <cstdint>

#include "kernels/layout/mailbox.h"
#include "kernels/layout/program.h"

#if defined(__CUDACC__)
#define MEGAKERNEL_DEVICE __device__
#define MEGAKERNEL_UNROLL(times) _Pragma(times)
#else
#define MEGAKERNEL_DEVICE
#define MEGAKERNEL_UNROLL(times)
#endif

namespace megakernel::device {

// A word's value and the 32-bit epoch that it belongs to.
MEGAKERNEL_DEVICE inline std::uint64_t Tagged(std::uint32_t value, std::uint32_t epoch) {
  return static_cast<std::uint64_t>(epoch) << 32 | value;
}

using layout::CommandLine;
using layout::CommandType;
using layout::EventCause;
using layout::EventKind;
using layout::FaultCode;
using layout::LaneState;
using layout::SchedulerState;

template <class Args, class Words>
struct SchedulerLoop {
  const Args& args;
  const layout::Program& program;
  SchedulerState& state;
  std::uint64_t next_command, next_event;
  std::uint32_t published = 0, processed = 0;  // steps
  std::uint64_t heartbeat;                     // rises over launches too
  bool stopping = false;                       // kStop was read: no more commands, no more steps
  bool parking = false;                        // kPark was read: leave as soon as no lane is held
  std::int32_t copy_source = -1, copy_target = -1;

  MEGAKERNEL_DEVICE explicit SchedulerLoop(const Args& a)
      : args(a),
        program(a.program),
        state(*reinterpret_cast<SchedulerState*>(a.workspace + a.program.workspace.scheduler)),
        next_command(a.first_command),
        next_event(a.first_event),
        heartbeat(Words::LoadAcquireSystem(&a.control->heartbeat)) {}

  MEGAKERNEL_DEVICE void Beat() { Words::StoreRelaxedSystem(&args.control->heartbeat, ++heartbeat); }

  // --- events ---

  MEGAKERNEL_DEVICE void Emit(EventKind kind, EventCause cause, std::int32_t lane, std::int32_t position,
                              std::int32_t token, std::int32_t kv_length) {
    layout::EventLine* line = args.events + (next_event - 1) % layout::kEventLines;
    const std::uint32_t epoch = lane >= 0 ? state.table.lanes[lane].epoch : 0;
    auto* words = reinterpret_cast<std::uint64_t*>(line);
    Words::StoreRelaxedSystem(words, static_cast<std::uint64_t>(kind) | static_cast<std::uint64_t>(cause) << 8 |
                                         static_cast<std::uint64_t>(lane & 0xffff) << 16 |
                                         static_cast<std::uint64_t>(epoch) << 32);
    Words::StoreRelaxedSystem(words + 1, static_cast<std::uint32_t>(position) |
                                             static_cast<std::uint64_t>(static_cast<std::uint32_t>(token)) << 32);
    Words::StoreRelaxedSystem(words + 2, static_cast<std::uint32_t>(kv_length));
    Words::StoreReleaseSystem(words + 3, next_event++);
  }

  MEGAKERNEL_DEVICE bool RoomForEvents() const {
    const std::uint64_t drained = Words::LoadAcquireSystem(&args.control->events_drained);
    return next_event - 1 - drained + layout::kEventReserve <= layout::kEventLines;
  }

  // --- commands ---

  MEGAKERNEL_DEVICE void Admit(const CommandLine& c) {
    layout::Lane& lane = state.table.lanes[c.lane];
    layout::LaneRecord& record = state.lanes[c.lane];
    parking = false;
    lane.state = LaneState::kRunning;
    lane.epoch = c.epoch;
    lane.order = c.order;
    lane.num_tokens = c.num_tokens;
    lane.kv_length = c.kv_length;
    lane.token_limit = c.token_limit;
    lane.prompt_end = c.num_tokens;
    lane.flags = c.lane_flags;
    lane.kv_capacity = 0;
    record = layout::LaneRecord{};
    record.greedy = c.temperature == 0.0f;
    reinterpret_cast<layout::LaneSampling*>(args.workspace + program.workspace.samplings)[c.lane] = {
        c.seed, c.temperature, c.top_p, c.min_p, c.top_k};
    record.written = c.kv_length;
    record.num_stop_tokens = c.num_stop_tokens;
    for (std::int32_t i = 0; i < c.num_stop_tokens; ++i) {
      record.stops[i] = args.lanes.stops[c.lane * layout::kMaxStopTokens + i];
    }
    ReadPages(c.lane, 0, c.num_pages);
  }

  MEGAKERNEL_DEVICE void ReadPages(std::int32_t lane, std::int32_t first, std::int32_t end) {
    const std::int32_t* source = args.lanes.pages + std::int64_t{lane} * program.max_pages;
    std::int32_t* target = reinterpret_cast<std::int32_t*>(args.workspace + program.workspace.page_table) +
                           std::int64_t{lane} * program.max_pages;
    MEGAKERNEL_UNROLL("unroll 8")
    for (std::int32_t i = first; i < end; ++i) target[i] = source[i];
    state.table.lanes[lane].kv_capacity = end * program.kv.page_tokens;
  }

  MEGAKERNEL_DEVICE bool Holds(const CommandLine& c) const {
    const layout::Lane& lane = state.table.lanes[c.lane];
    return lane.state != LaneState::kFree && lane.epoch == c.epoch;
  }

  // Carries out the commands that are there; false when a command must wait for the steps in flight.
  MEGAKERNEL_DEVICE void ReadCommands() {
    while (!stopping && copy_source < 0) {
      const CommandLine& line = args.commands[(next_command - 1) % layout::kCommandLines];
      if (Words::LoadAcquireSystem(&line.sequence) != next_command) return;
      switch (line.type) {
        case CommandType::kAdmit:
          Admit(line);
          break;
        case CommandType::kGrantPages:
          if (Holds(line)) {
            ReadPages(line.lane, state.table.lanes[line.lane].kv_capacity / program.kv.page_tokens, line.num_pages);
          }
          break;
        case CommandType::kCancel:
          if (Holds(line)) End(line.lane, EventCause::kCancelled);
          break;
        case CommandType::kCopyPage:
          copy_source = line.source_page;
          copy_target = line.target_page;
          break;
        case CommandType::kSetPolicy:
          state.policy = line.policy;
          if (state.policy.max_rows > program.max_rows) state.policy.max_rows = program.max_rows;
          break;
        case CommandType::kPark:
          parking = true;
          break;
        case CommandType::kStop:
          for (std::int32_t i = 0; i < state.table.num_lanes; ++i) {
            if (state.table.lanes[i].state != LaneState::kFree) End(i, EventCause::kCancelled);
          }
          stopping = true;
          break;
        default:
          break;
      }
      ++next_command;
      // A copy is consumed when it is done (CopyPage).
      if (copy_source < 0) Words::StoreReleaseSystem(&args.control->commands_consumed, next_command - 1);
    }
  }

  // --- lanes ---

  // No more rows for the lane; it is free when the steps with its rows are over. The first cause stays.
  MEGAKERNEL_DEVICE void End(std::int32_t lane, EventCause cause) {
    if (state.lanes[lane].ending == EventCause::kNone) state.lanes[lane].ending = cause;
    state.table.lanes[lane].state = LaneState::kStopping;
  }

  MEGAKERNEL_DEVICE void FinishEnded() {
    for (std::int32_t i = 0; i < state.table.num_lanes; ++i) {
      layout::Lane& lane = state.table.lanes[i];
      layout::LaneRecord& record = state.lanes[i];
      if (lane.state != LaneState::kStopping || record.ending == EventCause::kNone || record.last_step > processed) {
        continue;
      }
      Emit(EventKind::kFinished, record.ending, i, record.written, 0, record.written);
      lane.state = LaneState::kFree;
    }
  }

  MEGAKERNEL_DEVICE bool AnyLane() const {
    for (std::int32_t i = 0; i < state.table.num_lanes; ++i) {
      if (state.table.lanes[i].state != LaneState::kFree) return true;
    }
    return false;
  }

  // --- steps ---

  MEGAKERNEL_DEVICE std::uint64_t* StepPackets(std::uint32_t step) const {
    return reinterpret_cast<std::uint64_t*>(args.workspace + program.workspace.steps) +
           (step & 1) * layout::kStepPackets;
  }

  MEGAKERNEL_DEVICE void PublishHeader(std::uint32_t step, std::int32_t num_rows, std::uint32_t flags) {
    std::uint64_t* packets = StepPackets(step);
    Words::StoreRelaxed(packets + 1, Tagged(static_cast<std::uint32_t>(copy_source), step));
    Words::StoreRelaxed(packets + 2, Tagged(static_cast<std::uint32_t>(copy_target), step));
    Words::StoreRelaxed(packets, Tagged(static_cast<std::uint32_t>(num_rows) | flags << 16, step));
  }

  MEGAKERNEL_DEVICE void PublishRow(std::uint32_t step, std::int32_t index, const layout::StepRow& row) {
    std::uint64_t* packets = StepPackets(step) + layout::kStepHeaderPackets + index * layout::kRowPackets;
    const std::uint32_t* fields = reinterpret_cast<const std::uint32_t*>(&row);
    MEGAKERNEL_UNROLL("unroll")
    for (int i = 0; i < layout::kRowPackets; ++i) Words::StoreRelaxed(packets + i, Tagged(fields[i], step));
  }

  MEGAKERNEL_DEVICE void PublishPlan(const layout::StepPlan& plan, std::uint32_t step) {
    Words::FenceGpu();  // page tables and samplings before the step that uses them
    std::int32_t row = 0;
    std::uint32_t flags = 0;
    for (std::int32_t s = 0; s < plan.num_segments; ++s) {
      const layout::Segment& segment = plan.segments[s];
      const layout::Lane& lane = state.table.lanes[segment.lane];
      layout::LaneRecord& record = state.lanes[segment.lane];
      if (!record.started) {
        record.started = 1;
        Emit(EventKind::kStarted, EventCause::kNone, segment.lane, segment.first_position, 0, segment.first_position);
      }
      const std::int32_t* tokens = args.lanes.tokens + std::int64_t{segment.lane} * program.max_context;
      const std::int32_t first_row = row;
      for (std::int32_t i = 0; i < segment.num_rows; ++i, ++row) {
        layout::StepRow out;
        out.lane = segment.lane;
        out.position = segment.first_position + i;
        out.first_row = first_row;
        out.source_row = -1;
        if (out.position < lane.prompt_end) {
          out.token = tokens[out.position];
        } else if (record.last_step + 1 == step) {
          out.source_row = record.last_row;
        } else {
          out.token = record.last_token;
        }
        const bool samples = (segment.flags & layout::kSegmentSamples) && i == segment.num_rows - 1;
        const bool greedy = record.greedy != 0;
        if (samples) {
          out.flags = layout::kRowSamples | (greedy ? layout::kRowGreedy : 0u);
          flags |= layout::kStepHead | (greedy ? 0u : layout::kStepLogits);
        }
        PublishRow(step, row, out);
      }
      record.last_step = step;
      record.last_row = row - 1;
    }
    PublishHeader(step, plan.num_rows, flags);
  }

  MEGAKERNEL_DEVICE bool TokenReady(std::uint32_t step, std::int32_t row, std::int32_t& token) const {
    const std::uint64_t* packets = reinterpret_cast<const std::uint64_t*>(args.workspace + program.workspace.tokens) +
                                   (step & 1) * program.max_rows;
    const std::uint64_t word = Words::LoadRelaxed(packets + row);
    token = static_cast<std::int32_t>(word);
    return static_cast<std::uint32_t>(word >> 32) == step;
  }

  // Takes the results of the step after `processed` if all its rows are done.
  MEGAKERNEL_DEVICE bool Process() {
    const std::uint32_t step = processed + 1;
    const layout::StepPlan& plan = state.plans[step & 1];
    std::int32_t token;
    for (std::int32_t r = 0; r < plan.num_rows; ++r) {
      if (!TokenReady(step, r, token)) return false;
    }
    std::int32_t row = 0;
    for (std::int32_t s = 0; s < plan.num_segments; ++s) {
      const layout::Segment& segment = plan.segments[s];
      row += segment.num_rows;
      layout::LaneRecord& record = state.lanes[segment.lane];
      if (record.ending != EventCause::kNone) continue;  // a dead row, or cancelled meanwhile
      record.written = segment.first_position + segment.num_rows;
      if (segment.flags & layout::kSegmentSamples) {
        TokenReady(step, row - 1, token);
        record.last_token = token;
        Emit(EventKind::kToken, EventCause::kNone, segment.lane, record.written, token, 0);
        for (std::int32_t i = 0; i < record.num_stop_tokens; ++i) {
          if (record.stops[i] == token) End(segment.lane, EventCause::kStopToken);
        }
      }
      if (segment.flags & layout::kSegmentLast) {
        End(segment.lane, segment.flags & layout::kSegmentSamples ? EventCause::kLength : EventCause::kPrefilled);
      }
    }
    processed = step;
    Words::StoreRelaxedSystem(&args.control->steps, processed);
    return true;
  }

  // Publishes the next step if there is one to run.
  MEGAKERNEL_DEVICE bool PlanNext() {
    const std::uint32_t step = published + 1;
    layout::StepPlan& plan = state.plans[step & 1];
    layout::Plan(state.table, state.policy, step, plan);
    if (plan.num_rows == 0) return false;
    PublishPlan(plan, step);
    layout::Advance(plan, state.table);
    published = step;
    return true;
  }

  // A copy step has no rows and no tokens: every block answers with its candidate packet.
  MEGAKERNEL_DEVICE void CopyPage() {
    const std::uint32_t step = ++published;
    state.plans[step & 1].num_rows = 0;
    state.plans[step & 1].num_segments = 0;
    PublishHeader(step, 0, layout::kStepCopy);
    const std::uint64_t* words = reinterpret_cast<const std::uint64_t*>(args.workspace + program.workspace.candidates);
    for (std::int32_t i = 0; i < program.num_blocks; ++i) {
      Words::AwaitPacket(args, words + std::int64_t{i} * program.max_rows * 2, step);
    }
    Words::FenceGpu();
    processed = step;
    copy_source = copy_target = -1;
    Words::StoreReleaseSystem(&args.control->commands_consumed, next_command - 1);
  }

  // Whether the kernel returns, with nothing in flight.
  MEGAKERNEL_DEVICE bool Leaves(std::uint64_t& idle_since) const {
    if (stopping) return true;
    if (AnyLane()) {  // lanes that wait for pages or for room for events
      idle_since = 0;
      return false;
    }
    if (parking || args.leave_when_idle) return true;
    if (args.park_after_us == 0) return false;
    const std::uint64_t now = Words::GlobalTimer();
    if (idle_since == 0) idle_since = now;
    return now - idle_since > std::uint64_t{1000} * args.park_after_us;
  }

  // Waits for the results of the oldest step in flight. Returns without them every now and then while another step
  // could be added, to look for commands. `polls`: since the last result.
  MEGAKERNEL_DEVICE void AwaitResults(std::uint32_t& polls) {
    while (!Process()) {
      if (++polls > Words::kSpinLimit) Words::Fault(args, FaultCode::kStepTimeout, processed + 1);
      if (published - processed < 2 && (polls & 255) == 0) return;
    }
    polls = 0;
    Beat();
  }

  MEGAKERNEL_DEVICE void Run() {
    std::uint64_t idle_since = 0;
    std::uint32_t polls = 0;
    while (true) {
      ReadCommands();
      FinishEnded();
      if (copy_source >= 0 && processed == published) CopyPage();
      if (copy_source < 0 && published - processed < 2 && RoomForEvents()) PlanNext();
      if (published != processed) {
        idle_since = 0;
        AwaitResults(polls);
        continue;
      }
      if (Leaves(idle_since)) break;
      Beat();
      Words::Sleep(500);
    }
    Emit(stopping ? EventKind::kStopped : EventKind::kParked, EventCause::kNone, -1, 0, 0, 0);
    PublishHeader(published + 1, 0, layout::kStepExit);
  }
};

}  // namespace megakernel::device
