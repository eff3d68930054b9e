#include "engine/core/run_delay.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

namespace megakernel {

absl::Duration RunDelay::Look() {
  std::unordered_map<std::uint64_t, std::uint64_t> waited;
  std::uint64_t longest = 0;
  std::error_code error;
  std::filesystem::directory_iterator at("/proc/self/task", error);
  for (const std::filesystem::directory_iterator end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename();
    std::uint64_t thread = 0, ran = 0, now = 0;
    std::from_chars(name.data(), name.data() + name.size(), thread);
    std::ifstream file(at->path() / "schedstat");
    if (!(file >> ran >> now)) continue;  // it has ended, or the kernel does not count
    waited.emplace(thread, now);
    const auto before = waited_ns_.find(thread);
    if (before != waited_ns_.end() && now > before->second) longest = std::max(longest, now - before->second);
  }
  waited_ns_ = std::move(waited);
  return absl::Nanoseconds(static_cast<std::int64_t>(longest));
}

}  // namespace megakernel
