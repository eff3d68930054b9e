#include "engine/model/hf_shards.h"

#include <set>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/json_text.h"

namespace megakernel {
namespace {

constexpr char kSingle[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";

// A shard lies beside its index: no directories, nothing hidden.
bool IsPlainFileName(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name.front() != '.' && name.ends_with(".safetensors") &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

}  // namespace

absl::StatusOr<std::map<std::string, std::string>> ParseShardIndex(std::string_view text, const std::string& name) {
  const auto json = ParseJsonObject(text, name);
  if (!json.ok()) return json.status();
  const auto weight_map = json->find("weight_map");
  if (weight_map == json->end() || !weight_map->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": weight_map is missing or not an object"));
  }
  std::map<std::string, std::string> result;
  for (const auto& [tensor, file] : weight_map->items()) {
    if (!file.is_string() || !IsPlainFileName(file.get<std::string>())) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": weight_map must map tensors to names of .safetensors files in the same directory"));
    }
    result.emplace(tensor, file.get<std::string>());
  }
  return result;
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path, std::int64_t max_bytes) {
  const auto file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  const auto size = static_cast<std::int64_t>(file->bytes().size());
  if (size > max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": the file has ", size, " bytes; the limit is ", max_bytes));
  }
  return std::string(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size());
}

absl::Status HfShards::Add(const std::string& path) {
  auto file = SafetensorsFile::Open(path);
  if (!file.ok()) return file.status();
  files_.push_back(*std::move(file));
  for (const StoredTensor& tensor : files_.back().tensors()) {
    if (!tensors_.emplace(tensor.name, &tensor).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor ", tensor.name, " is also in ", FileOf(tensor.name)));
    }
    file_of_.emplace(tensor.name, files_.size() - 1);
  }
  return absl::OkStatus();
}

const std::string& HfShards::FileOf(const std::string& tensor) const {
  return files_[file_of_.at(tensor)].path();
}

absl::StatusOr<HfShards> HfShards::Open(const std::string& directory) {
  HfShards shards;
  const std::string index_path = absl::StrCat(directory, "/", kIndex);
  const absl::Status single = shards.Add(absl::StrCat(directory, "/", kSingle));
  if (single.ok()) return shards;
  if (!absl::IsNotFound(single)) return single;

  const auto text = ReadTextFile(index_path, kMaxIndexBytes);
  if (absl::IsNotFound(text.status())) {
    return absl::NotFoundError(absl::StrCat(directory, ": neither ", kSingle, " nor ", kIndex, " is there"));
  }
  if (!text.ok()) return text.status();
  const auto index = ParseShardIndex(*text, index_path);
  if (!index.ok()) return index.status();
  std::set<std::string> names;
  for (const auto& [tensor, file] : *index) names.insert(file);
  if (names.empty() || names.size() > kMaxShards) {
    return absl::InvalidArgumentError(
        absl::StrCat(index_path, ": names ", names.size(), " files; 1 to ", kMaxShards, " are allowed"));
  }
  for (const std::string& name : names) {
    if (const absl::Status added = shards.Add(absl::StrCat(directory, "/", name)); !added.ok()) return added;
  }
  for (const auto& [tensor, file] : *index) {
    if (shards.tensors_.count(tensor) == 0 || shards.FileOf(tensor) != absl::StrCat(directory, "/", file)) {
      return absl::InvalidArgumentError(absl::StrCat(index_path, ": tensor ", tensor, " is not in ", file));
    }
  }
  for (const auto& [tensor, stored] : shards.tensors_) {
    if (index->count(tensor) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(index_path, ": tensor ", tensor, " of ", shards.FileOf(tensor), " is not in the index"));
    }
  }
  return shards;
}

}  // namespace megakernel
