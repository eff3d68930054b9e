// The safetensors files of a model directory as one set of named tensors.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/safetensors_file.h"

namespace megakernel {

// Immutable after Open; pointers into it stay valid when it is moved.
class HfShards {
 public:
  static constexpr int kMaxShards = 1024;
  static constexpr std::int64_t kMaxIndexBytes = std::int64_t{16} << 20;

  // model.safetensors of `directory`, else the files that model.safetensors.index.json names. NotFound when neither
  // exists; InvalidArgument when a file is bad, a name of a shard is not a plain file name, two shards hold one tensor,
  // or index and shards disagree.
  static absl::StatusOr<HfShards> Open(const std::string& directory);

  const std::vector<SafetensorsFile>& files() const { return files_; }
  const std::map<std::string, const StoredTensor*>& tensors() const { return tensors_; }
  // File that holds a tensor of tensors(), for messages.
  const std::string& FileOf(const std::string& tensor) const;

 private:
  absl::Status Add(const std::string& path);

  std::vector<SafetensorsFile> files_;
  std::map<std::string, const StoredTensor*> tensors_;
  std::map<std::string, std::size_t> file_of_;
};

// weight_map of the text of an index: tensor -> name of its file. `name` starts every message.
absl::StatusOr<std::map<std::string, std::string>> ParseShardIndex(std::string_view text, const std::string& name);

// The whole text of a file of at most `max_bytes`. NotFound, or InvalidArgument naming the limit.
absl::StatusOr<std::string> ReadTextFile(const std::string& path, std::int64_t max_bytes);

}  // namespace megakernel
