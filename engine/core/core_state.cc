// EngineCore: what it holds, in words: for the log when the executor has failed.
#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/core/engine_core.h"

namespace megakernel {
namespace {

constexpr std::size_t kMaxLines = 160;  // more than lanes there can be

const char* StateName(ChoiceState state) {
  switch (state) {
    case ChoiceState::kIdle:
      return "idle";
    case ChoiceState::kWaiting:
      return "waiting";
    case ChoiceState::kRunning:
      return "running";
    case ChoiceState::kDone:
      return "done";
  }
  return "unknown";
}

// Counts and ages; nothing of what was said.
std::string Line(const Choice& choice, absl::Time now) {
  const Generation& generation = *choice.generation;
  std::string line =
      absl::StrCat("choice generation=", generation.id, " index=", choice.index, " state=", StateName(choice.state),
                   " lane=", choice.lane, " epoch=", choice.epoch, " started=", choice.started ? 1 : 0,
                   " cancel_sent=", choice.cancel_sent ? 1 : 0, " prompt_tokens=", generation.prompt_length,
                   " output_tokens=", choice.output_tokens, " token_limit=", choice.token_limit);
  if (choice.sequence != nullptr) {
    absl::StrAppend(&line, " length=", choice.sequence->length(), " kv_length=", choice.sequence->kv_length(),
                    " pages=", choice.sequence->pages().size());
  }
  absl::StrAppend(&line, " age_ms=", absl::ToInt64Milliseconds(now - generation.accepted));
  if (choice.output_tokens > 0) {
    absl::StrAppend(&line, " last_token_ms_ago=", absl::ToInt64Milliseconds(now - choice.last_token_time));
  }
  return line;
}

}  // namespace

std::vector<std::string> EngineCore::DescribeState() const {
  const EngineStats stats = Stats();
  std::vector<std::string> lines = {absl::StrCat(
      "engine running=", stats.sequences_running, " generations=", generations_.size(), " exports=", exports_.size(),
      " sessions=", stats.sessions, " pages_total=", stats.pages_total, " pages_used=", stats.pages_used,
      " pages_cached=", stats.pages_cached, " pages_free=", stats.pages_free, " requests=", stats.requests,
      " output_tokens=", stats.output_tokens, " heartbeat=", executor_->Heartbeat())};
  std::vector<const Choice*> choices;
  for (const auto& [id, generation] : generations_) {
    for (const Choice& choice : generation->choices) {
      if (choice.state != ChoiceState::kDone) choices.push_back(&choice);
    }
  }
  // Those that run first: they are what the executor has.
  std::sort(choices.begin(), choices.end(), [](const Choice* a, const Choice* b) {
    return std::tuple(a->state != ChoiceState::kRunning, a->lane, a->generation->id, a->index) <
           std::tuple(b->state != ChoiceState::kRunning, b->lane, b->generation->id, b->index);
  });
  for (const Choice* const choice : choices) {
    if (lines.size() == kMaxLines) {
      lines.push_back(absl::StrCat("and ", choices.size() + 1 - kMaxLines, " more"));
      break;
    }
    lines.push_back(Line(*choice, now_));
  }
  return lines;
}

}  // namespace megakernel
