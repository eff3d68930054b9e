// A GGUF file as a container: typed metadata and named tensors. Knows nothing of models.
// Source: the GGUF specification of ggml (docs/gguf.md), versions 2 and 3, little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/model/model.h"

namespace megakernel {

// The numbers are those of the file.
enum class GgufType : std::uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Where one metadata value lies. Strings and arrays were walked once, so reading them again does not fail.
struct GgufValue {
  GgufType type = GgufType::kUint8;
  GgufType element = GgufType::kUint8;  // of an array
  std::uint64_t count = 0;              // elements of an array
  std::span<const std::byte> bytes;     // a string's begin with its length; an array's with its first element
};

// Views into the bytes it was parsed from, which must outlive it. Immutable after Parse; safe to use from many threads.
// Every error is InvalidArgument and starts with the file's name, then the key or tensor.
class GgufFile {
 public:
  // Checks everything that the container alone can tell: magic, version, counts, lengths, types, duplicate names,
  // ranks, sizes, alignment, and that all tensors lie inside the file without overlapping. `name` is used in messages.
  static absl::StatusOr<GgufFile> Parse(std::span<const std::byte> bytes, std::string name);

  const std::string& name() const { return name_; }

  // Takes over the tensors of another part of a model that is split over files; its bytes must outlive this, too. A
  // name that is in both is an error.
  absl::Status Append(GgufFile part);

  bool Has(std::string_view key) const { return values_.contains(key); }
  // All keys, in the order of the file.
  const std::vector<std::string_view>& keys() const { return keys_; }

  // Any integer type that holds a value in [minimum, maximum].
  absl::StatusOr<std::int64_t> GetInteger(std::string_view key, std::int64_t minimum, std::int64_t maximum) const;
  // Float32 or float64, finite.
  absl::StatusOr<double> GetFloat(std::string_view key) const;
  absl::StatusOr<bool> GetBool(std::string_view key) const;
  absl::StatusOr<std::string_view> GetString(std::string_view key) const;
  absl::StatusOr<std::vector<std::string_view>> GetStrings(std::string_view key) const;
  // An array of any integer type; elements must fit in 32 bits with a sign.
  absl::StatusOr<std::vector<std::int32_t>> GetIntegers(std::string_view key) const;
  // An array of float32; elements need not be finite.
  absl::StatusOr<std::vector<float>> GetFloats(std::string_view key) const;

  // In the order of the file. A tensor of rank 1 has rows = 1; of rank 3 and 4, rows = the product of the outer sizes.
  const std::vector<TensorView>& tensors() const { return tensors_; }
  // Null when there is no such tensor.
  const TensorView* Find(std::string_view tensor) const;

  // InvalidArgument "<file>: <subject>: <problem>". Bytes of `subject` that are not printable are escaped.
  absl::Status Error(std::string_view subject, std::string_view problem) const;

 private:
  friend class GgufParser;
  GgufFile() = default;

  absl::StatusOr<GgufValue> Get(std::string_view key) const;

  std::string name_;
  std::vector<std::string_view> keys_;
  absl::flat_hash_map<std::string_view, GgufValue, std::hash<std::string_view>, std::equal_to<>> values_;
  std::vector<TensorView> tensors_;
  absl::flat_hash_map<std::string_view, std::size_t, std::hash<std::string_view>, std::equal_to<>> tensor_index_;
};

}  // namespace megakernel
