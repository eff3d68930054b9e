// The CPU executor's rotary embedding against transformers', to position 32,767: goldens of
// tests/reference/rope_goldens.py.
//
// The bound. u = 2^-24. transformers forms a frequency f with a power (1 ulp = 2 u), a division (u) and, under Llama
// 3's scaling, a mix of f and f / factor whose weight is off by at most 6 u; here it is rounded once (u). So
// frequencies differ by at most 4 u f, or 16 u f under that scaling (f unscaled). Both round position x frequency (u
// each). Angles then differ by at most position x f x (4 or 16, + 2) u, cosines and sines by that and their own
// roundings (2 u there, u here); a rotated pair (a, b) by (|a| + |b|) times that and 3 u (two products, one sum).
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace megakernel::test {

struct RopeReport {
  std::string source;     // of the goldens
  std::int32_t last = 0;  // largest position
  std::int64_t positions = 0;
  std::int64_t values = 0;  // cosines, sines and rotated elements that were compared
  double table_error = 0;   // largest of cosines and sines
  double head_error = 0;    // largest of the rotated heads, of every instruction set that works here
  double share = 0;         // largest error / bound of all

  bool pass() const { return values > 0 && share <= 1; }
};

// `prefix` names the goldens. NotFound or InvalidArgument naming the file.
absl::StatusOr<RopeReport> CheckRope(const std::string& prefix);

}  // namespace megakernel::test
