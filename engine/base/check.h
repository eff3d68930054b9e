// MK_CHECK: a broken invariant ends the process with the condition and the place. For what cannot happen unless this
// program is wrong; untrusted input gets an absl::Status instead.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace megakernel::internal {

[[noreturn]] inline void CheckFailed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, condition);
  std::fflush(stderr);
  std::abort();
}

}  // namespace megakernel::internal

#define MK_CHECK(condition) \
  (static_cast<bool>(condition) ? void() : ::megakernel::internal::CheckFailed(#condition, __FILE__, __LINE__))
