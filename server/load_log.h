// What the log says while a model loads.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/time/time.h"
#include "engine/base/clock.h"

namespace megakernel {

// Writes lines like
//   loading stage=pack share=0.41 bytes="489.3 MB" total="1.2 GB"
// none in the first second, then at most one a second, whatever the stage: a short load adds nothing to the log.
// The time starts when it is made. One thread only. `clock` outlives it.
class LoadLog {
 public:
  LoadLog(const Clock& clock, std::function<void(const std::string&)> write);

  // A LoadProgress (engine/base/load_progress.h).
  void Bytes(const char* stage, std::int64_t done, std::int64_t total);
  // Where bytes are not known: 0 <= share <= 1.
  void Share(const char* stage, double share);

 private:
  // Whether a line is due, which then counts as written.
  bool Due();

  const Clock& clock_;
  const std::function<void(const std::string&)> write_;
  absl::Time last_;
};

}  // namespace megakernel
