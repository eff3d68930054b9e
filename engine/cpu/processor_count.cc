#include "engine/cpu/processor_count.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <thread>

namespace megakernel::cpu {
namespace {

// Smaller of two quotas of which 0 means none.
double Stricter(double a, double b) {
  if (a <= 0) return std::max(b, 0.0);
  return b <= 0 ? a : std::min(a, b);
}

// Version 2: "max 100000" or "200000 100000" in cpu.max. Version 1: two files.
double QuotaOfGroup(const std::string& folder) {
  double quota = 0;
  double period = 0;
  if (std::ifstream(folder + "/cpu.max") >> quota >> period && period > 0) return quota / period;
  if (std::ifstream(folder + "/cpu.cfs_quota_us") >> quota && std::ifstream(folder + "/cpu.cfs_period_us") >> period &&
      quota > 0 && period > 0) {
    return quota / period;
  }
  return 0;
}

double QuotaUpwards(const std::string& mount, std::string path) {
  double quota = QuotaOfGroup(mount);
  while (path.size() > 1) {
    quota = Stricter(quota, QuotaOfGroup(mount + path));
    path.resize(path.rfind('/'));
  }
  return quota;
}

}  // namespace

double CgroupQuota(const std::string& root, const std::string& membership) {
  double quota = 0;
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {  // "4:cpu,cpuacct:/path" or "0::/path"
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) quota = Stricter(quota, QuotaUpwards(root, path));
    if (controllers == "cpu" || controllers.starts_with("cpu,") || controllers.ends_with(",cpu") ||
        controllers.find(",cpu,") != std::string::npos) {
      quota = Stricter(quota, QuotaUpwards(root + "/cpu", path));
      quota = Stricter(quota, QuotaUpwards(root + "/cpu,cpuacct", path));
    }
  }
  return quota;
}

int UsableProcessors() {
  int processors = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) processors = CPU_COUNT(&set);
  std::ostringstream membership;
  membership << std::ifstream("/proc/self/cgroup").rdbuf();
  const double quota = CgroupQuota("/sys/fs/cgroup", membership.str());
  if (quota > 0) processors = std::min(processors, static_cast<int>(std::ceil(quota)));
  return std::max(processors, 1);
}

}  // namespace megakernel::cpu
