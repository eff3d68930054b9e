#include "tests/bench/preset_model.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace megakernel::bench {

absl::StatusOr<std::string> ConfigText(const std::string& name) {
  const std::string path = std::filesystem::exists(name) ? name : absl::StrCat("configs/models/", name, ".json");
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return absl::NotFoundError(absl::StrCat("neither ", name, " nor ", path, " can be read"));
  return text.str();
}

absl::StatusOr<PresetModel> PresetModel::Open(const std::string& model, const std::string& config, std::uint64_t seed) {
  if (model.empty() == config.empty()) return absl::InvalidArgumentError("one of --model and --config must be given");
  PresetModel result;
  std::string path = model;
  if (!config.empty()) {
    test::CheckpointOptions options;
    MK_ASSIGN_OR_RETURN(options.config_text, ConfigText(config));
    options.seed = seed;
    options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    result.directory_ = std::make_unique<test::TempDirectory>();
    path = result.directory_->path();
    MK_RETURN_IF_ERROR(test::WriteCheckpoint(options, path).status());
  }
  MK_ASSIGN_OR_RETURN(result.model_, LoadModel(path));
  return result;
}

}  // namespace megakernel::bench
