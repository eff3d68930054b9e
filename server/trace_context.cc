#include "server/trace_context.h"

#include <algorithm>

namespace megakernel {
namespace {

constexpr std::size_t kLength = 55;  // of version 00

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool IsZero(std::string_view text) {
  return text.find_first_not_of('0') == std::string_view::npos;
}

}  // namespace

TraceContext ParseTraceParent(std::string_view value) {
  if (value.size() < kLength) return {};
  const std::string_view version = value.substr(0, 2), trace = value.substr(3, 32), parent = value.substr(36, 16),
                         flags = value.substr(53, 2);
  if (value[2] != '-' || value[35] != '-' || value[52] != '-') return {};
  if (!IsHex(version) || !IsHex(trace) || !IsHex(parent) || !IsHex(flags)) return {};
  if (version == "ff" || IsZero(trace) || IsZero(parent)) return {};
  if (value.size() > kLength && (version == "00" || value[kLength] != '-')) return {};
  const char last = flags[1];
  const int low_digit = last <= '9' ? last - '0' : last - 'a' + 10;
  return {.trace_id = std::string(trace), .parent_id = std::string(parent), .sampled = low_digit % 2 == 1};
}

}  // namespace megakernel
