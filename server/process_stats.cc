#include "server/process_stats.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <system_error>

namespace megakernel {
namespace {

// When the machine was started, in seconds since 1970.
double BootTime() {
  std::ifstream file("/proc/stat");
  for (std::string word; file >> word;) {
    double seconds = 0;
    if (word == "btime" && file >> seconds) return seconds;
  }
  return 0;
}

std::int64_t OpenFiles() {
  std::error_code error;
  std::filesystem::directory_iterator at("/proc/self/fd", error);
  std::int64_t count = -1;  // the iterator's own
  for (const std::filesystem::directory_iterator end; !error && at != end; at.increment(error)) ++count;
  return count < 0 ? 0 : count;
}

}  // namespace

ProcessStats ReadProcessStats() {
  ProcessStats stats;
  std::ifstream file("/proc/self/stat");
  const std::string line{std::istreambuf_iterator<char>(file), {}};
  const std::size_t name_end = line.rfind(')');  // the name may hold anything
  if (name_end == std::string::npos) return stats;
  std::istringstream fields(line.substr(name_end + 1));
  std::string skipped;
  for (int field = 3; field < 14; ++field) fields >> skipped;
  double user = 0, system = 0, started = 0;
  fields >> user >> system;                                     // 14, 15
  for (int field = 16; field < 20; ++field) fields >> skipped;  // children's times, priority, nice
  fields >> stats.threads >> skipped >> started >> stats.virtual_bytes >> stats.resident_bytes;  // 20 to 24
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  stats.cpu_seconds = (user + system) / ticks;
  stats.start_time_seconds = BootTime() + started / ticks;
  stats.resident_bytes *= sysconf(_SC_PAGESIZE);
  stats.open_fds = OpenFiles();
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) stats.max_fds = static_cast<std::int64_t>(limit.rlim_cur);
  return stats;
}

}  // namespace megakernel
