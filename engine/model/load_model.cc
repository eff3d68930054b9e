#include <filesystem>

#include "engine/model/gguf_model.h"
#include "engine/model/hf_model.h"
#include "engine/model/model.h"

namespace megakernel {

absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& path, const LoadProgress& progress) {
  std::error_code ignored;  // a path that cannot be looked at is reported by the reader
  if (std::filesystem::is_directory(path, ignored)) return LoadHfModel(path, progress);
  return LoadGgufModel(path, progress);
}

}  // namespace megakernel
