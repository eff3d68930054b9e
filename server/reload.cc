#include "server/reload.h"

#include "spdlog/spdlog.h"

namespace megakernel {

void Reloader::Add(std::string name, Part part) {
  MutexLock lock(&mutex_);
  parts_.emplace_back(std::move(name), std::move(part));
}

std::vector<Reloader::Outcome> Reloader::Reload() {
  MutexLock lock(&mutex_);
  std::vector<Outcome> outcomes;
  for (const auto& [name, part] : parts_) {
    outcomes.push_back({name, part()});
    const absl::StatusOr<std::string>& result = outcomes.back().result;
    if (result.ok()) {
      spdlog::info("reload part={} now=\"{}\"", name, *result);
    } else {
      spdlog::error("reload part={} unchanged=1 error=\"{}\"", name, std::string(result.status().message()));
    }
  }
  return outcomes;
}

}  // namespace megakernel
