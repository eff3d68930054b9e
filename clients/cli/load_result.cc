#include "clients/cli/load_result.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "clients/cli/command.h"

namespace megakernel::cli {
namespace {

constexpr int kCurvePoints = 100;  // of a distribution, beside its ends

double PerSecond(double count, const LoadResult& result) {
  return result.seconds > 0 ? count / result.seconds : 0;
}

std::string Point(const LoadResult& result) {
  return result.rate > 0 ? absl::StrFormat("%g/s", result.rate) : absl::StrFormat("%g", result.concurrency);
}

std::string SummaryJson(LoadSamples& samples) {
  return absl::StrFormat("{\"count\":%d,\"mean\":%.4f,\"p50\":%.4f,\"p90\":%.4f,\"p99\":%.4f,\"max\":%.4f}",
                         samples.count(), samples.mean(), samples.Quantile(0.5), samples.Quantile(0.9),
                         samples.Quantile(0.99), samples.Quantile(1));
}

// Values at evenly spaced shares from 0 to 1: what a plot of the distribution needs.
std::string CurveJson(LoadSamples& samples) {
  std::string out = "[";
  for (int i = 0; i <= kCurvePoints && samples.count() > 0; ++i) {
    absl::StrAppendFormat(&out, "%s%.4f", i > 0 ? "," : "", samples.Quantile(static_cast<double>(i) / kCurvePoints));
  }
  return out + "]";
}

std::string ErrorsJson(const LoadResult& result) {
  std::string out = "{";
  for (const auto& [what, count] : result.errors) {
    absl::StrAppend(&out, out.size() > 1 ? "," : "", JsonString(what), ":", count);
  }
  return out + "}";
}

void AppendObjective(const LoadObjective& objective, std::string* out) {
  const std::pair<const char*, std::optional<double>> bounds[] = {{"ttft_ms", objective.ttft_ms},
                                                                  {"itl_ms", objective.itl_ms},
                                                                  {"tpot_ms", objective.tpot_ms},
                                                                  {"e2e_ms", objective.e2e_ms}};
  std::string entries;
  for (const auto& [name, bound] : bounds) {
    if (bound) absl::StrAppend(&entries, entries.empty() ? "" : ",", JsonString(name), ":", *bound);
  }
  absl::StrAppend(out, ",\"slo\":{", entries, "}");
}

}  // namespace

double LoadSamples::mean() const {
  double sum = 0;
  for (const float value : values_) sum += value;
  return values_.empty() ? 0 : sum / static_cast<double>(values_.size());
}

double LoadSamples::Quantile(double q) {
  if (values_.empty()) return 0;
  if (!sorted_) std::sort(values_.begin(), values_.end());
  sorted_ = true;
  const auto rank = static_cast<std::ptrdiff_t>(std::ceil(q * static_cast<double>(values_.size()))) - 1;
  return values_[static_cast<std::size_t>(std::max<std::ptrdiff_t>(rank, 0))];
}

std::string LoadTable(std::vector<LoadResult>& results, const LoadSettings& settings) {
  std::string out =
      absl::StrFormat("%-10s %7s %7s %7s %9s %8s | %-26s | %-26s | %-18s | %s\n", settings.open() ? "rate" : "callers",
                      "ok", "cancel", "failed", "tokens/s", "calls/s", "ttft ms p50/p90/p99/max",
                      "itl ms p50/p90/p99/max", "tpot ms p50/p99", "e2e ms p50/p99");
  const auto four = [](LoadSamples& s) {
    return absl::StrFormat("%.2f / %.2f / %.2f / %.1f", s.Quantile(0.5), s.Quantile(0.9), s.Quantile(0.99),
                           s.Quantile(1));
  };
  const auto two = [](LoadSamples& s) { return absl::StrFormat("%.2f / %.2f", s.Quantile(0.5), s.Quantile(0.99)); };
  for (LoadResult& result : results) {
    absl::StrAppendFormat(&out, "%-10s %7d %7d %7d %9.1f %8.1f | %-26s | %-26s | %-18s | %s\n", Point(result),
                          result.ok, result.cancelled, result.failed(),
                          PerSecond(static_cast<double>(result.tokens), result),
                          PerSecond(static_cast<double>(result.ok), result), four(result.ttft), four(result.itl),
                          two(result.tpot), two(result.e2e));
  }
  for (LoadResult& result : results) {
    if (!settings.objective.empty()) {
      absl::StrAppendFormat(&out, "%s: %d of %d calls within the SLO, %.1f a second\n", Point(result), result.good,
                            result.sent, PerSecond(static_cast<double>(result.good), result));
    }
    if (settings.open()) {
      absl::StrAppendFormat(&out, "%s: sent late by %.2f ms p50, %.2f ms p99\n", Point(result),
                            result.late.Quantile(0.5), result.late.Quantile(0.99));
    }
    for (const auto& [what, count] : result.errors) {
      absl::StrAppendFormat(&out, "%s: %d calls ended with %s\n", Point(result), count, what);
    }
  }
  return out;
}

std::string LoadJson(LoadResult& result, const LoadSettings& settings) {
  std::string out =
      absl::StrFormat("{\"loop\":\"%s\",\"%s\":%g", result.rate > 0 ? "open" : "closed",
                      result.rate > 0 ? "rate" : "concurrency", result.rate > 0 ? result.rate : result.concurrency);
  absl::StrAppendFormat(
      &out,
      ",\"connections\":%d,\"prompt_tokens\":%d,\"output_tokens\":%d,\"turns\":%d,\"seed\":%d,\"seconds\":%.4f"
      ",\"sent\":%d,\"ok\":%d,\"cancelled\":%d,\"slow\":%d,\"cut\":%d,\"failed\":%d,\"errors\":%s"
      ",\"tokens\":%d,\"tokens_per_message\":%.3f,\"tokens_per_s\":%.3f,\"calls_per_s\":%.3f",
      settings.connections, settings.prompt_tokens, settings.output_tokens, settings.turns, settings.seed,
      result.seconds, result.sent, result.ok, result.cancelled, result.slow, result.cut, result.failed(),
      ErrorsJson(result), result.tokens,
      result.messages > 0 ? static_cast<double>(result.tokens) / static_cast<double>(result.messages) : 0.0,
      PerSecond(static_cast<double>(result.tokens), result), PerSecond(static_cast<double>(result.ok), result));
  if (!settings.objective.empty()) {
    AppendObjective(settings.objective, &out);
    absl::StrAppendFormat(&out, ",\"good\":%d,\"goodput_per_s\":%.3f", result.good,
                          PerSecond(static_cast<double>(result.good), result));
  }
  const std::pair<const char*, LoadSamples*> times[] = {
      {"ttft_ms", &result.ttft}, {"itl_ms", &result.itl}, {"message_gap_ms", &result.message_gap},
      {"tpot_ms", &result.tpot}, {"e2e_ms", &result.e2e}, {"late_ms", &result.late}};
  for (const auto& [name, samples] : times) absl::StrAppend(&out, ",\"", name, "\":", SummaryJson(*samples));
  absl::StrAppend(&out, ",\"curves\":{\"ttft_ms\":", CurveJson(result.ttft), ",\"itl_ms\":", CurveJson(result.itl),
                  ",\"e2e_ms\":", CurveJson(result.e2e), "}}\n");
  return out;
}

}  // namespace megakernel::cli
