// A random checkpoint of a preset in a directory that vanishes with the object.
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/status/status.h"
#include "tests/support/checkpoint.h"

namespace megakernel::test {

// Text of configs/models/<preset>.json; empty when there is no such preset.
inline std::string PresetText(const std::string& preset) {
  std::ifstream file(std::string(MEGAKERNEL_SOURCE_DIR) + "/configs/models/" + preset + ".json");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class TempDirectory {
 public:
  TempDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "megakernel-test-XXXXXX").string();
    path_ = mkdtemp(name.data()) == nullptr ? "" : name;
  }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  ~TempDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class TempCheckpoint {
 public:
  TempCheckpoint(const std::string& preset, std::uint64_t seed, TensorType type = TensorType::kBF16, int shards = 1) {
    CheckpointOptions options;
    options.config_text = PresetText(preset);
    options.seed = seed;
    options.type = type;
    options.max_shards = shards;
    status_ = WriteCheckpoint(options, path()).status();
  }
  const absl::Status& status() const { return status_; }
  const std::string& path() const { return directory_.path(); }

 private:
  TempDirectory directory_;
  absl::Status status_;
};

}  // namespace megakernel::test
