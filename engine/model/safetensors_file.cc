#include "engine/model/safetensors_file.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/json_text.h"

namespace megakernel {
namespace {

using nlohmann::json;

constexpr std::int64_t kLengthBytes = 8;
constexpr std::size_t kMaxNameBytes = 512;
constexpr std::size_t kMaxDimensions = 4;

template <class... Parts>
absl::Status Bad(const std::string& path, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", parts...));
}

// A name for messages: printable and short whatever the file holds.
std::string Shown(const std::string& name) {
  return json(name.substr(0, 80)).dump(-1, ' ', true, json::error_handler_t::replace);
}

std::optional<TensorType> TypeOf(const std::string& dtype) {
  if (dtype == "F32") return TensorType::kF32;
  if (dtype == "F16") return TensorType::kF16;
  if (dtype == "BF16") return TensorType::kBF16;
  return std::nullopt;
}

// A non-negative integer that fits std::int64_t.
std::optional<std::int64_t> Count(const json& value) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::uint64_t{INT64_MAX}) return std::nullopt;
  return value.get<std::int64_t>();
}

// Sets type and shape of `tensor`; returns its bytes.
absl::StatusOr<std::int64_t> ReadShape(const std::string& path, const json& entry, std::int64_t limit,
                                       StoredTensor& tensor) {
  const std::string shown = Shown(tensor.name);
  const auto dtype = entry.find("dtype");
  if (dtype == entry.end() || !dtype->is_string()) return Bad(path, "tensor ", shown, " has no dtype");
  const auto type = TypeOf(dtype->get<std::string>());
  if (!type) return Bad(path, "tensor ", shown, " has dtype ", Shown(*dtype), "; F32, F16 and BF16 are supported");
  tensor.type = *type;

  const auto shape = entry.find("shape");
  if (shape == entry.end() || !shape->is_array() || shape->empty() || shape->size() > kMaxDimensions) {
    return Bad(path, "tensor ", shown, " must have a shape of 1 to ", kMaxDimensions, " dimensions");
  }
  std::int64_t bytes = BlockBytes(*type);
  for (const json& dimension : *shape) {
    const auto count = Count(dimension);
    if (!count || *count < 1 || *count > limit / bytes) {
      return Bad(path, "tensor ", shown, " has a dimension that is not an integer from 1 up or exceeds the file's ",
                 limit, " bytes of data");
    }
    tensor.shape.push_back(*count);
    bytes *= *count;
  }
  return bytes;
}

absl::StatusOr<StoredTensor> ReadTensor(const std::string& path, const std::string& name, const json& entry,
                                        std::span<const std::byte> data) {
  const std::string shown = Shown(name);
  if (name.size() > kMaxNameBytes) return Bad(path, "a tensor name is longer than ", kMaxNameBytes, " bytes: ", shown);
  if (!entry.is_object()) return Bad(path, "the entry of tensor ", shown, " is not an object");
  StoredTensor tensor;
  tensor.name = name;
  const auto limit = static_cast<std::int64_t>(data.size());
  const auto bytes = ReadShape(path, entry, limit, tensor);
  if (!bytes.ok()) return bytes.status();

  const auto offsets = entry.find("data_offsets");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2) {
    return Bad(path, "tensor ", shown, " has no data_offsets of two numbers");
  }
  const auto begin = Count((*offsets)[0]);
  const auto end = Count((*offsets)[1]);
  if (!begin || !end || *begin > *end || *end > limit) {
    return Bad(path, "tensor ", shown, " has data_offsets outside the file's ", limit, " bytes of data");
  }
  if (*end - *begin != *bytes) {
    return Bad(path, "tensor ", shown, " has ", *end - *begin, " bytes of data; its shape needs ", *bytes);
  }
  tensor.bytes = data.subspan(static_cast<std::size_t>(*begin), static_cast<std::size_t>(*bytes));
  return tensor;
}

// The format demands that tensors cover the data without overlap or gap.
absl::Status CheckCover(const std::string& path, std::span<const std::byte> data,
                        const std::vector<StoredTensor>& tensors) {
  const std::byte* next = data.data();
  for (const StoredTensor& tensor : tensors) {
    if (tensor.bytes.data() < next) return Bad(path, "tensor ", Shown(tensor.name), " overlaps the tensor before it");
    if (tensor.bytes.data() > next) {
      return Bad(path, tensor.bytes.data() - next, " bytes before tensor ", Shown(tensor.name), " belong to no tensor");
    }
    next = tensor.bytes.data() + tensor.bytes.size();
  }
  const auto rest = data.data() + data.size() - next;
  if (rest != 0) return Bad(path, "the last ", rest, " bytes belong to no tensor");
  return absl::OkStatus();
}

// Length of the header, checked against the file.
absl::StatusOr<std::int64_t> HeaderBytes(const std::string& path, std::span<const std::byte> bytes) {
  const auto size = static_cast<std::int64_t>(bytes.size());
  if (size < kLengthBytes + 2) return Bad(path, "the file has ", size, " bytes; a header needs at least 10");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length > std::uint64_t{kMaxSafetensorsHeaderBytes}) {
    return Bad(path, "the header length is ", length, "; the limit is ", kMaxSafetensorsHeaderBytes);
  }
  if (static_cast<std::int64_t>(length) > size - kLengthBytes) {
    return Bad(path, "the header length is ", length, " but only ", size - kLengthBytes, " bytes follow: cut short?");
  }
  return static_cast<std::int64_t>(length);
}

}  // namespace

absl::StatusOr<std::vector<StoredTensor>> ParseSafetensors(std::span<const std::byte> bytes, const std::string& name) {
  const auto length = HeaderBytes(name, bytes);
  if (!length.ok()) return length.status();
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + kLengthBytes;
  const auto header = ParseJsonObject({text, static_cast<std::size_t>(*length)}, name + ": header");
  if (!header.ok()) return header.status();

  const auto data = bytes.subspan(static_cast<std::size_t>(kLengthBytes + *length));
  if (header->size() > kMaxSafetensors) {
    return Bad(name, "the header has ", header->size(), " entries; the limit is ", kMaxSafetensors);
  }
  std::vector<StoredTensor> tensors;
  for (const auto& [key, entry] : header->items()) {
    if (key == "__metadata__") continue;
    auto tensor = ReadTensor(name, key, entry, data);
    if (!tensor.ok()) return tensor.status();
    tensors.push_back(*std::move(tensor));
  }
  std::sort(tensors.begin(), tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.bytes.data() < b.bytes.data(); });
  if (const absl::Status cover = CheckCover(name, data, tensors); !cover.ok()) return cover;
  return tensors;
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  auto mapped = MappedFile::Open(path);
  if (!mapped.ok()) return mapped.status();
  SafetensorsFile file(*std::move(mapped));
  auto tensors = ParseSafetensors(file.bytes(), path);
  if (!tensors.ok()) return tensors.status();
  file.tensors_ = *std::move(tensors);
  return file;
}

}  // namespace megakernel
