#include "engine/cuda/mailbox_translation.h"

#include <algorithm>
#include <variant>

#include "absl/strings/str_cat.h"
#include "engine/cuda/resident_executor.h"

namespace megakernel {
namespace {

FinishCause CauseOf(layout::EventCause cause) {
  switch (cause) {
    case layout::EventCause::kStopToken:
      return FinishCause::kStopToken;
    case layout::EventCause::kLength:
      return FinishCause::kLength;
    case layout::EventCause::kPrefilled:
      return FinishCause::kPrefilled;
    case layout::EventCause::kCancelled:
      return FinishCause::kCancelled;
    case layout::EventCause::kNone:
      break;
  }
  return FinishCause::kNone;
}

EventType TypeOf(layout::EventKind kind) {
  switch (kind) {
    case layout::EventKind::kStarted:
      return EventType::kStarted;
    case layout::EventKind::kFinished:
      return EventType::kFinished;
    case layout::EventKind::kStopped:
      return EventType::kStopped;
    default:
      return EventType::kToken;
  }
}

}  // namespace

layout::CommandLine AdmitLine(const Admit& admit) {
  layout::CommandLine line;
  line.type = layout::CommandType::kAdmit;
  line.lane = admit.lane;
  line.epoch = admit.epoch;
  line.lane_flags = admit.prefill_only ? layout::kLanePrefillOnly : 0u;
  line.order = admit.order;
  line.seed = admit.sampling.seed;
  line.num_tokens = static_cast<std::int32_t>(admit.tokens.size());
  line.kv_length = admit.kv_length;
  line.token_limit = admit.token_limit;
  line.num_pages = static_cast<std::int32_t>(admit.pages.size());
  line.num_stop_tokens = static_cast<std::int32_t>(admit.sampling.stop_tokens.size());
  line.top_k = admit.sampling.top_k;
  line.temperature = admit.sampling.temperature;
  line.top_p = admit.sampling.top_p;
  line.min_p = admit.sampling.min_p;
  return line;
}

layout::CommandLine GrantLine(const GrantPages& grant, std::int32_t num_pages) {
  layout::CommandLine line;
  line.type = layout::CommandType::kGrantPages;
  line.lane = grant.lane;
  line.epoch = grant.epoch;
  line.num_pages = num_pages;
  return line;
}

layout::CommandLine PlainLine(const Command& command) {
  layout::CommandLine line;
  if (const auto* cancel = std::get_if<Cancel>(&command)) {
    line.type = layout::CommandType::kCancel;
    line.lane = cancel->lane;
    line.epoch = cancel->epoch;
  } else if (const auto* copy = std::get_if<CopyPage>(&command)) {
    line.type = layout::CommandType::kCopyPage;
    line.source_page = copy->source;
    line.target_page = copy->target;
  } else if (const auto* set = std::get_if<SetPolicy>(&command)) {
    line.type = layout::CommandType::kSetPolicy;
    line.policy = set->policy;
  } else if (std::holds_alternative<Park>(command)) {
    line.type = layout::CommandType::kPark;
  }
  return line;
}

Event EventOf(const layout::EventLine& line) {
  Event event;
  event.type = TypeOf(static_cast<layout::EventKind>(line.kind));
  event.cause = CauseOf(static_cast<layout::EventCause>(line.cause));
  event.lane = line.lane;
  event.epoch = line.epoch;
  event.position = line.position;
  event.token = line.token;
  event.kv_length = line.kv_length;
  return event;
}

absl::Status CheckPageCount(std::size_t num_pages, const ExecutorInfo& info) {
  const auto most = static_cast<std::size_t>(layout::PagesFor(info.max_context, info.page_tokens));
  if (num_pages <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("a lane would have ", num_pages, " pages, its table holds ", most));
}

ExecutorInfo ResidentInfo(const layout::Program& program, const std::string& device) {
  ExecutorInfo info;
  info.device = device;
  info.max_lanes = program.max_lanes;
  info.max_rows = program.max_rows;
  info.max_context = program.max_context;
  info.vocab = program.vocab;
  info.page_tokens = program.kv.page_tokens;
  info.num_pages = program.num_kv_pages;
  info.page_bytes = program.kv.PageBytes();
  info.weight_bytes = program.weight_bytes;
  info.kv_type = "fp16";
  info.page_format = absl::StrCat("cuda fp16, ", program.kv.layout == layout::KvLayout::kHeadMajor ? "head" : "token",
                                  "-major, operand order 1, ", program.kv.page_tokens, " tokens");
  for (const Feature feature : {Feature::kTemperature, Feature::kTopK, Feature::kTopP, Feature::kMinP}) {
    info.features |= 1u << static_cast<std::uint32_t>(feature);
  }
  return info;
}

}  // namespace megakernel
