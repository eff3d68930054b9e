#include "server/metrics_page.h"

#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/call_counts.h"
#include "server/metrics_text.h"
#include "server/model_description.h"
#include "server/process_stats.h"

namespace megakernel {
namespace {

void AddServer(const Server& server, MetricsText& page) {
  const ServerLoad load = server.load();
  page.Family("megakernel_ready", "gauge", "1 when calls come in: the model is loaded and the server does not drain.");
  page.Sample(load.state == ServerLoad::State::kServing ? 1 : 0);
  page.Family("megakernel_open_calls", "gauge", "Generate and Decode calls that are open.");
  page.Sample(static_cast<double>(load.open_calls));
  page.Family("megakernel_calls_total", "counter", "Generate and Decode calls that have ended, by status code.");
  const CallCounts& counts = server.call_counts();
  for (std::size_t method = 0; method < CallCounts::kMethods.size(); ++method) {
    for (int code = 0; code < CallCounts::kCodes; ++code) {
      page.Sample(
          static_cast<double>(counts.ended(method, code)),
          absl::StrCat(MetricsText::Label("method", CallCounts::kMethods[method]), ",",
                       MetricsText::Label("code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code)))));
    }
  }
  page.Family("megakernel_call_errors_total", "counter",
              "Generate and Decode calls that ended with an error, by the reason in its details.");
  for (std::size_t i = 0; i < kNumErrorReasons; ++i) {
    const auto reason = static_cast<ErrorReason>(i);
    page.Sample(static_cast<double>(counts.errors(reason)), MetricsText::Label("reason", ReasonName(reason)));
  }
}

void AddGauges(const EngineStats& stats, const ExecutorInfo& info, MetricsText& page) {
  const auto gauge = [&](std::string_view name, double value, std::string_view help) {
    page.Family(name, "gauge", help);
    page.Sample(value);
  };
  gauge("megakernel_requests_waiting", static_cast<double>(stats.requests_waiting), "Requests that wait for a lane.");
  gauge("megakernel_sequences_running", static_cast<double>(stats.sequences_running), "Sequences that run.");
  gauge("megakernel_sequences_max", info.max_lanes, "Sequences that can run at the same time.");
  gauge("megakernel_sessions", static_cast<double>(stats.sessions), "Sessions that exist.");
  page.Family("megakernel_kv_pages", "gauge",
              "Pages of keys and values: used by sequences and sessions, cached prefixes nobody uses, free.");
  page.Sample(static_cast<double>(stats.pages_used), MetricsText::Label("state", "used"));
  page.Sample(static_cast<double>(stats.pages_cached), MetricsText::Label("state", "cached"));
  page.Sample(static_cast<double>(stats.pages_free), MetricsText::Label("state", "free"));
  gauge("megakernel_kv_usage_ratio",
        stats.pages_total > 0 ? static_cast<double>(stats.pages_used) / static_cast<double>(stats.pages_total) : 0,
        "Share of the pages that sequences and sessions hold, 0 to 1.");
  gauge("megakernel_kv_page_tokens", info.page_tokens, "Tokens that a page holds.");
  gauge("megakernel_executor_heartbeat_age_seconds", absl::ToDoubleSeconds(stats.heartbeat_age),
        "For how long the executor has not moved although it has work.");
}

void AddCounters(const EngineStats& stats, MetricsText& page) {
  const auto counter = [&](std::string_view name, std::int64_t value, std::string_view help) {
    page.Family(name, "counter", help);
    page.Sample(static_cast<double>(value));
  };
  counter("megakernel_requests_total", stats.requests, "Generations that were accepted; the first is the warm-up.");
  counter("megakernel_prompt_tokens_total", stats.prompt_tokens, "Tokens of prompts, of sessions' histories too.");
  counter("megakernel_cached_prompt_tokens_total", stats.cached_tokens,
          "Of the prompt tokens: found among the keys and values that were there (prefix hits).");
  counter("megakernel_output_tokens_total", stats.output_tokens, "Tokens that were generated and handed over.");
  counter("megakernel_preemptions_total", stats.preemptions,
          "Sequences that gave up their pages to older ones and were computed again.");
  counter("megakernel_sessions_reclaimed_total", stats.sessions_reclaimed, "Idle sessions whose pages were taken.");
  counter("megakernel_sessions_expired_total", stats.sessions_expired, "Sessions that were idle for too long.");
}

std::string_view FinishName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStopToken:
      return "stop_token";
    case FinishReason::kStopString:
      return "stop_string";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kFailed:
      return "failed";
  }
  return "unknown";
}

void AddEngine(const Engine& engine, MetricsText& page) {
  const EngineMetrics& metrics = engine.metrics();
  const EngineStats stats = engine.Stats();
  AddGauges(stats, engine.info(), page);
  AddCounters(stats, page);
  page.Family("megakernel_sequences_finished_total", "counter", "Sequences that have ended, by cause.");
  for (std::size_t i = 0; i < kNumFinishReasons; ++i) {
    const auto reason = static_cast<FinishReason>(i);
    page.Sample(static_cast<double>(metrics.finished[reason]), MetricsText::Label("reason", FinishName(reason)));
  }
  page.Family("megakernel_errors_total", "counter",
              "Generations that the engine refused or ended with an error, by reason.");
  for (std::size_t i = 0; i < kNumErrorReasons; ++i) {
    const auto reason = static_cast<ErrorReason>(i);
    page.Sample(static_cast<double>(metrics.errors[reason]), MetricsText::Label("reason", ReasonName(reason)));
  }
  page.Family("megakernel_queue_time_seconds", "histogram", "From acceptance to the first row of the prompt.");
  page.Histogram(metrics.queue_time.Snapshot());
  page.Family("megakernel_time_to_first_token_seconds", "histogram", "From acceptance to the first token.");
  page.Histogram(metrics.time_to_first_token.Snapshot());
  page.Family("megakernel_inter_token_time_seconds", "histogram", "From a token to the next one of its sequence.");
  page.Histogram(metrics.inter_token_time.Snapshot());
  page.Family("megakernel_request_time_seconds", "histogram", "From acceptance to the end, however it ended.");
  page.Histogram(metrics.request_time.Snapshot());
  page.Family("megakernel_build_info", "gauge", "1, with what is served in the labels.");
  page.Sample(1, absl::StrCat(MetricsText::Label("version", VersionText()), ",",
                              MetricsText::Label("model", engine.model().config().name), ",",
                              MetricsText::Label("device", engine.info().device)));
}

void AddProcess(MetricsText& page) {
  const ProcessStats stats = ReadProcessStats();
  const auto add = [&](std::string_view name, std::string_view type, double value, std::string_view help) {
    page.Family(name, type, help);
    page.Sample(value);
  };
  add("process_cpu_seconds_total", "counter", stats.cpu_seconds, "Processor time, user and system, in seconds.");
  add("process_start_time_seconds", "gauge", stats.start_time_seconds, "Start, in seconds since 1970.");
  add("process_resident_memory_bytes", "gauge", static_cast<double>(stats.resident_bytes), "Resident memory.");
  add("process_virtual_memory_bytes", "gauge", static_cast<double>(stats.virtual_bytes), "Virtual memory.");
  add("process_open_fds", "gauge", static_cast<double>(stats.open_fds), "Open file descriptors.");
  add("process_max_fds", "gauge", static_cast<double>(stats.max_fds), "File descriptors that may be open.");
  add("process_threads", "gauge", static_cast<double>(stats.threads), "Threads.");
}

}  // namespace

std::string MetricsPage(const Server& server) {
  MetricsText page;
  AddServer(server, page);
  if (const Engine* const engine = server.engine(); engine != nullptr) AddEngine(*engine, page);
  AddProcess(page);
  return page.text();
}

}  // namespace megakernel
