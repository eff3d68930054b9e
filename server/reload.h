// The parts of the configuration that may change while the server runs, each with what reads it again.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "engine/base/mutex.h"

namespace megakernel {

// Thread-safe.
class Reloader {
 public:
  // Reads the part again, puts it in force if it is right, and says what is in force now. An error changes nothing.
  using Part = std::function<absl::StatusOr<std::string>()>;
  struct Outcome {
    std::string part;
    absl::StatusOr<std::string> result;
  };

  void Add(std::string name, Part part);
  // Every part, in the order of Add; logs a line each. One caller at a time, others wait.
  std::vector<Outcome> Reload();

 private:
  Mutex mutex_;
  std::vector<std::pair<std::string, Part>> parts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace megakernel
