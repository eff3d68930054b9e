#include "clients/cli/reply.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace megakernel::cli {
namespace {

// Shows the messages of one call. A single sequence is streamed; several are printed whole as each finishes, because
// text from two of them must not mix.
class Printer {
 public:
  Printer(const ReplyStyle& style, int num_sequences) : style_(style), num_sequences_(num_sequences) {}

  void Show(const v1::GenerateResponse& response) {
    if (style_.json) {
      Print(absl::StrCat(ToJson(response), "\n"));
      return;
    }
    if (response.has_delta()) {
      const std::string text = Text(response.delta());
      if (num_sequences_ > 1) {
        held_[response.delta().index()] += text;
      } else {
        Stream(text);
      }
    } else if (response.has_finished() && num_sequences_ > 1) {
      PrintHeld(response.finished().index());
    }
  }

  // Shows what is left of a call that was cut. The shell's prompt, or the next reply, starts on a new line.
  void End() {
    while (!held_.empty()) PrintHeld(held_.begin()->first);
    if (printed_ && !ends_line_) Print("\n");
  }

 private:
  std::string Text(const v1::GenerationDelta& delta) const {
    if (!style_.token_ids) return delta.text();
    std::string text;
    for (const int id : delta.token_ids()) absl::StrAppend(&text, id, " ");
    return text;
  }

  void PrintHeld(int index) {
    Print(absl::StrCat("[", index, "] ", held_[index], "\n"));
    held_.erase(index);
  }

  void Stream(const std::string& text) {
    if (text.empty()) return;
    Print(text);
    printed_ = true;
    ends_line_ = absl::EndsWith(text, "\n");
  }

  const ReplyStyle style_;
  const int num_sequences_;
  std::map<int, std::string> held_;
  bool printed_ = false;
  bool ends_line_ = false;
};

void Measure(const v1::GenerationDelta& delta, ReplyTimes* times) {
  if (delta.token_ids().empty() && delta.text().empty()) return;
  const absl::Time now = absl::Now();
  // Without ids in the answer every delta counts as one token, until `finished` tells.
  const int tokens = std::max(1, delta.token_ids_size());
  if (times->first_output == absl::InfiniteFuture()) {
    times->first_output = now;
    times->first_tokens = tokens;
  }
  times->tokens += tokens;
  times->last_output = now;
}

double TokensPerSecond(const ReplyTimes& times) {
  if (times.first_output == absl::InfiniteFuture()) return 0;
  const double seconds = absl::ToDoubleSeconds(times.last_output - times.first_output);
  const int tokens = times.tokens - times.first_tokens;
  return tokens > 0 && seconds > 0 ? tokens / seconds : 0;
}

std::string TimesJson(const ReplyTimes& times) {
  const bool any = times.first_output != absl::InfiniteFuture();
  return absl::StrFormat(
      "{\"stats\":{\"first_token_ms\":%s,\"tokens\":%d,\"tokens_per_second\":%.1f,\"total_ms\":%.3f}}\n",
      any ? absl::StrFormat("%.3f", absl::ToDoubleMilliseconds(times.first_output - times.sent)) : "null", times.tokens,
      TokensPerSecond(times), absl::ToDoubleMilliseconds(absl::Now() - times.sent));
}

}  // namespace

std::string DescribeTimes(const ReplyTimes& times) {
  if (times.first_output == absl::InfiniteFuture()) return "no output";
  std::string text = absl::StrFormat("first token %.1f ms, %d tokens",
                                     absl::ToDoubleMilliseconds(times.first_output - times.sent), times.tokens);
  const double rate = TokensPerSecond(times);
  if (rate > 0) absl::StrAppendFormat(&text, ", %.1f tokens/s", rate);
  return text;
}

ReplyOutcome RunReply(client::Client* client, const v1::GenerateRequest& request, const client::CallOptions& options,
                      client::CancelToken* cancel, Interrupts* interrupts, const ReplyStyle& style) {
  ReplyOutcome outcome;
  Printer printer(style, request.has_num_sequences() ? request.num_sequences() : 1);
  int completed = 0;
  const auto on_response = [&](const v1::GenerateResponse& response) {
    if (response.has_delta()) Measure(response.delta(), &outcome.times);
    if (response.has_finished()) {
      outcome.session_length = response.finished().session_length();
      completed += response.finished().usage().completion_tokens();
    }
    printer.Show(response);
    return true;
  };
  outcome.signal = interrupts->During([cancel] { cancel->Cancel(); },
                                      [&] {
                                        outcome.times.sent = absl::Now();
                                        outcome.error = client->Generate(request, on_response, options);
                                      });
  if (outcome.error.ok()) outcome.times.tokens = completed;
  printer.End();
  if (style.stats && style.json) {
    Print(TimesJson(outcome.times));
  } else if (style.stats) {
    absl::FPrintF(stderr, "[%s]\n", DescribeTimes(outcome.times));
  }
  return outcome;
}

}  // namespace megakernel::cli
