#include "tests/support/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/model/hf_config.h"

namespace megakernel::test {
namespace {

using nlohmann::ordered_json;

constexpr std::int64_t kPieceElements = std::int64_t{1} << 18;

struct PlacedTensor {
  PlannedTensor planned;
  std::int64_t begin = 0;  // bytes from the start of the shard's data
};

struct Shard {
  std::string file_name;
  std::vector<PlacedTensor> tensors;
  std::int64_t bytes = 0;
};

const char* DtypeName(TensorType type) {
  return type == TensorType::kBF16 ? "BF16" : type == TensorType::kF16 ? "F16" : "F32";
}

std::int64_t ElementBytes(TensorType type) {
  return type == TensorType::kF32 ? 4 : 2;
}

// A tensor goes to the shard that its first byte falls into when all bytes are cut into equal parts, but at most one
// past the shard before: no shard is empty.
std::vector<Shard> Distribute(std::vector<PlannedTensor> plan, std::int64_t element_bytes, int max_shards) {
  std::int64_t total = 0;
  for (const PlannedTensor& tensor : plan) total += tensor.Elements() * element_bytes;
  std::vector<Shard> shards(1);
  std::int64_t start = 0;
  for (PlannedTensor& tensor : plan) {
    const std::int64_t bytes = tensor.Elements() * element_bytes;
    if (start * max_shards / total >= static_cast<std::int64_t>(shards.size())) shards.emplace_back();
    Shard& shard = shards.back();
    shard.tensors.push_back({std::move(tensor), shard.bytes});
    shard.bytes += bytes;
    start += bytes;
  }
  for (std::size_t i = 0; i < shards.size(); ++i) {
    shards[i].file_name =
        max_shards == 1 ? "model.safetensors" : absl::StrFormat("model-%05d-of-%05d.safetensors", i + 1, shards.size());
  }
  return shards;
}

std::string Header(const Shard& shard, TensorType type) {
  ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  for (const PlacedTensor& tensor : shard.tensors) {
    const std::int64_t end = tensor.begin + tensor.planned.Elements() * ElementBytes(type);
    ordered_json& entry = header[tensor.planned.name];
    entry["dtype"] = DtypeName(type);
    entry["shape"] = tensor.planned.shape;
    entry["data_offsets"] = {tensor.begin, end};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string result(8, '\0');
  const std::uint64_t length = text.size();
  std::memcpy(result.data(), &length, sizeof(length));
  return result + text;
}

bool WriteAll(int fd, const void* data, std::size_t bytes, std::int64_t offset) {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = pwrite(fd, from, bytes, offset);
    if (n <= 0) return false;
    from += n;
    offset += n;
    bytes -= static_cast<std::size_t>(n);
  }
  return true;
}

// One thread's buffers: generates a piece of a tensor and writes it.
class PieceWriter {
 public:
  PieceWriter(std::uint64_t seed, TensorType type) : seed_(seed), type_(type) {}

  bool Write(int fd, const PlannedTensor& tensor, std::int64_t first, std::int64_t data_offset) {
    const auto count = static_cast<std::size_t>(std::min(kPieceElements, tensor.Elements() - first));
    values_.resize(count);
    GenerateWeights(seed_, Fnv1a64(tensor.name), tensor.distribution, first, values_);
    const std::int64_t offset = data_offset + first * ElementBytes(type_);
    if (type_ == TensorType::kF32) return WriteAll(fd, values_.data(), count * sizeof(float), offset);
    rounded_.resize(count);
    if (type_ == TensorType::kBF16) {
      for (std::size_t i = 0; i < count; ++i) rounded_[i] = FloatToBFloat16(values_[i]);
    } else {
      for (std::size_t i = 0; i < count; ++i) rounded_[i] = FloatToHalf(values_[i]);
    }
    return WriteAll(fd, rounded_.data(), count * sizeof(std::uint16_t), offset);
  }

 private:
  std::uint64_t seed_;
  TensorType type_;
  std::vector<float> values_;
  std::vector<std::uint16_t> rounded_;
};

absl::Status WriteShard(const CheckpointOptions& options, const Shard& shard, const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return absl::InternalError(absl::StrCat(path, ": cannot create: ", std::strerror(errno)));
  const std::string header = Header(shard, options.type);
  std::atomic<bool> good = WriteAll(fd, header.data(), header.size(), 0);

  struct Piece {
    const PlacedTensor* tensor;
    std::int64_t first;
  };
  std::vector<Piece> pieces;
  for (const PlacedTensor& tensor : shard.tensors) {
    for (std::int64_t i = 0; i < tensor.planned.Elements(); i += kPieceElements) pieces.push_back({&tensor, i});
  }
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    PieceWriter writer(options.seed, options.type);
    for (std::size_t i = next++; i < pieces.size() && good; i = next++) {
      const auto offset = static_cast<std::int64_t>(header.size()) + pieces[i].tensor->begin;
      if (!writer.Write(fd, pieces[i].tensor->planned, pieces[i].first, offset)) good = false;
    }
  };
  std::vector<std::thread> threads;
  for (int t = 1; t < options.threads; ++t) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  if (close(fd) != 0) good = false;
  return good ? absl::OkStatus() : absl::InternalError(absl::StrCat(path, ": cannot write: ", std::strerror(errno)));
}

absl::Status WriteText(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  return file ? absl::OkStatus() : absl::InternalError(absl::StrCat(path, ": cannot write"));
}

std::string Index(const std::vector<Shard>& shards, std::int64_t total) {
  ordered_json index;
  index["metadata"] = {{"total_size", total}};
  for (const Shard& shard : shards) {
    for (const PlacedTensor& tensor : shard.tensors) index["weight_map"][tensor.planned.name] = shard.file_name;
  }
  return index.dump(2) + "\n";
}

}  // namespace

absl::StatusOr<std::int64_t> WriteCheckpoint(const CheckpointOptions& options, const std::string& directory) {
  const auto config = ParseHfConfig(options.config_text, "config");
  if (!config.ok()) return config.status();
  if (options.max_shards < 1 || options.max_shards > 1000 || options.threads < 1) {
    return absl::InvalidArgumentError("shards must be 1 to 1000 and threads at least 1");
  }
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error || !std::filesystem::is_empty(directory, error) || error) {
    return absl::InvalidArgumentError(absl::StrCat(directory, ": not an empty directory that can be written"));
  }
  const auto shards = Distribute(PlanTensors(*config), ElementBytes(options.type), options.max_shards);
  std::int64_t total = 0;
  for (const Shard& shard : shards) {
    if (auto written = WriteShard(options, shard, absl::StrCat(directory, "/", shard.file_name)); !written.ok()) {
      return written;
    }
    total += shard.bytes;
  }
  if (options.max_shards > 1) {
    const auto written = WriteText(directory + "/model.safetensors.index.json", Index(shards, total));
    if (!written.ok()) return written;
  }
  const auto written = WriteText(directory + "/config.json", options.config_text);
  if (!written.ok()) return written;
  return total;
}

}  // namespace megakernel::test
