#include "server/load_log.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "server/option_values.h"

namespace megakernel {

LoadLog::LoadLog(const Clock& clock, std::function<void(const std::string&)> write)
    : clock_(clock), write_(std::move(write)), last_(clock.Now()) {}

bool LoadLog::Due() {
  const absl::Time now = clock_.Now();
  if (now - last_ < absl::Seconds(1)) return false;
  last_ = now;
  return true;
}

void LoadLog::Bytes(const char* stage, std::int64_t done, std::int64_t total) {
  if (!Due()) return;
  write_(absl::StrFormat("loading stage=%s share=%.2f bytes=\"%s\" total=\"%s\"", stage,
                         static_cast<double>(done) / static_cast<double>(total), HumanBytes(done), HumanBytes(total)));
}

void LoadLog::Share(const char* stage, double share) {
  if (Due()) write_(absl::StrFormat("loading stage=%s share=%.2f", stage, share));
}

}  // namespace megakernel
