#include "server/log.h"

#include <grpc/support/log.h>

#include <string_view>

#include "engine/core/error.h"
#include "spdlog/sinks/stdout_color_sinks.h"
#include "spdlog/spdlog.h"

namespace megakernel {
namespace {

void FromGrpc(gpr_log_func_args* args) {
  const bool is_error = args->severity == GPR_LOG_SEVERITY_ERROR;
  spdlog::log(is_error ? spdlog::level::warn : spdlog::level::debug, "grpc \"{}\"", args->message);
}

double Ms(absl::Duration duration) {
  return absl::ToDoubleMilliseconds(duration);
}

std::string_view OrDash(const std::string& text) {
  return text.empty() ? std::string_view("-") : std::string_view(text);
}

}  // namespace

void LogRequest(const RequestRecord& record) {
  const ErrorReason reason = ReasonOf(record.status);
  spdlog::info(
      "request method={} tenant={} id={} trace={} parent={} session={} code={} reason={} operations={} "
      "prompt_tokens={} cached_tokens={} "
      "output_tokens={} queue_ms={:.3f} prefill_ms={:.3f} decode_ms={:.3f} total_ms={:.3f}",
      record.method, OrDash(record.tenant), OrDash(record.request_id), OrDash(record.trace.trace_id),
      OrDash(record.trace.parent_id), OrDash(record.session_id), absl::StatusCodeToString(record.status.code()),
      reason == ErrorReason::kUnspecified ? "-" : ReasonName(reason), record.operations, record.prompt_tokens,
      record.cached_tokens, record.output_tokens, Ms(record.queue), Ms(record.prefill), Ms(record.decode),
      Ms(record.total));
}

void StartLog(const std::string& level) {
  spdlog::set_default_logger(spdlog::stderr_color_mt("megakernel"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %^%l%$ %v");
  spdlog::set_level(spdlog::level::from_str(level));
  gpr_set_log_function(FromGrpc);
}

}  // namespace megakernel
