// A .safetensors file: named tensors of plain element types in one mapped file.
//
// File: 8 bytes little-endian header length N; N bytes of JSON {"name": {"dtype", "shape", "data_offsets": [begin,
// end]},
// ..., "__metadata__": {string: string}}; then the tensors, back to back, offsets counted from the end of the header.
// Source: the format description of huggingface/safetensors (README, "Format").
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/mapped_file.h"
#include "engine/model/model.h"

namespace megakernel {

inline constexpr std::int64_t kMaxSafetensorsHeaderBytes = std::int64_t{16} << 20;  // real ones: 100 bytes a tensor
inline constexpr int kMaxSafetensors = 65536;

struct StoredTensor {
  std::string name;
  TensorType type = TensorType::kF32;  // kF32, kF16 or kBF16
  std::vector<std::int64_t> shape;     // [outer, ..., inner]; 1 to 4 dimensions, each at least 1
  std::span<const std::byte> bytes;    // in the mapped file
};

// The tensors of a whole file's bytes, in the order of their place in the file; their bytes are views. Checks as Open,
// and `name` starts every message.
absl::StatusOr<std::vector<StoredTensor>> ParseSafetensors(std::span<const std::byte> bytes, const std::string& name);

// Movable; tensor bytes stay valid as long as the object (or what it was moved to) lives. Immutable after Open.
class SafetensorsFile {
 public:
  // Every field is checked: header length, JSON, element type, shape against byte range, ranges inside the file that
  // cover it without overlap or gap. InvalidArgument (NotFound when there is no file) names the file, the tensor and
  // the limit.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  std::span<const std::byte> bytes() const { return file_.bytes(); }
  // Gives back the memory of these pages (MappedFile::Release).
  void Release(std::span<const std::byte> bytes) const { file_.Release(bytes); }
  // In the order of their place in the file.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }

 private:
  explicit SafetensorsFile(MappedFile file) : file_(std::move(file)) {}

  MappedFile file_;
  std::vector<StoredTensor> tensors_;
};

}  // namespace megakernel
