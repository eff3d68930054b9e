// Moments for gRPC and from gRPC, on its monotonic clock: a wall clock that is set moves none of them.
#pragma once

#include <grpc/support/time.h>

#include "absl/time/time.h"

namespace megakernel {

// The moment `wait` from now.
inline gpr_timespec GrpcTimeIn(absl::Duration wait) {
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(absl::ToInt64Nanoseconds(wait), GPR_TIMESPAN));
}

// How long it is until `moment` of a call (its deadline): negative when it has passed, infinite when there is none.
inline absl::Duration TimeUntil(gpr_timespec moment) {
  if (gpr_time_cmp(moment, gpr_inf_future(moment.clock_type)) == 0) return absl::InfiniteDuration();
  const gpr_timespec left = gpr_time_sub(moment, gpr_now(moment.clock_type));
  return absl::Seconds(left.tv_sec) + absl::Nanoseconds(left.tv_nsec);
}

}  // namespace megakernel
