// The model of a measurement: a file, or a random checkpoint that lives as long as the object.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/model.h"
#include "tests/support/temp_checkpoint.h"

namespace megakernel::bench {

// The text of a config file or, relative to the working directory, of a preset of configs/models.
absl::StatusOr<std::string> ConfigText(const std::string& name);

class PresetModel {
 public:
  // InvalidArgument unless exactly one of `model` (a path) and `config` (a config file or preset) is given.
  static absl::StatusOr<PresetModel> Open(const std::string& model, const std::string& config, std::uint64_t seed);
  const Model& model() const { return *model_; }

 private:
  std::unique_ptr<test::TempDirectory> directory_;  // null for a file
  std::unique_ptr<Model> model_;
};

}  // namespace megakernel::bench
