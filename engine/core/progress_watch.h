// For how long a counter that should rise has stood still.
#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"

namespace megakernel {

// A look counts the time since the last one, but `longest_gap` at most: time in which nobody looked (the process was
// stopped, the machine slept, the clock was set) says nothing about whoever should move the counter. Nor does time in
// which it had no processor. Not thread-safe.
class ProgressWatch {
 public:
  explicit ProgressWatch(absl::Duration longest_gap) : longest_gap_(longest_gap) {}

  // How long `count` has been the same in spite of work. Zero when it moved since the last look, or is not `busy`.
  // `starved`: for how long of the time since the last look whoever moves it could not run.
  absl::Duration Look(absl::Time now, std::uint64_t count, bool busy, absl::Duration starved = absl::ZeroDuration()) {
    const absl::Duration gap = std::clamp(now - last_look_ - starved, absl::ZeroDuration(), longest_gap_);
    still_ = busy && was_busy_ && count == count_ ? still_ + gap : absl::ZeroDuration();
    last_look_ = now;
    count_ = count;
    was_busy_ = busy;
    return still_;
  }

 private:
  const absl::Duration longest_gap_;
  absl::Time last_look_ = absl::InfinitePast();
  std::uint64_t count_ = 0;
  bool was_busy_ = false;  // at the last look
  absl::Duration still_;
};

}  // namespace megakernel
