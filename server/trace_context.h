// The trace that a call belongs to, as W3C's `traceparent` tells it.
#pragma once

#include <string>
#include <string_view>

namespace megakernel {

struct TraceContext {
  std::string trace_id{};   // 32 lower-case hexadecimal digits; empty: none
  std::string parent_id{};  // 16, of the caller's span
  bool sampled = false;
};

// Reads the value of `traceparent`, "00-TRACE-PARENT-FLAGS". What is not one, zero ids and version ff included, gives
// an empty context, as W3C asks: the call goes on without a trace. Versions after 00 may be longer. Source: W3C Trace
// Context, section 3.2.
TraceContext ParseTraceParent(std::string_view value);

}  // namespace megakernel
