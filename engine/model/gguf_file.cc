#include "engine/model/gguf_file.h"

#include <cmath>
#include <limits>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/absl_view.h"
#include "engine/model/byte_cursor.h"

namespace megakernel {
namespace {

const char* TypeName(GgufType type) {
  static constexpr const char* kNames[] = {"uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
                                           "bool",  "string", "array",  "uint64", "int64",  "float64"};
  return kNames[static_cast<std::size_t>(type)];
}

std::size_t Size(GgufType type) {
  static constexpr std::size_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return kSizes[static_cast<std::size_t>(type)];
}

template <class T>
T Load(const std::byte* data) {
  T value;
  std::memcpy(&value, data, sizeof(value));
  return value;
}

// The integer at `data`; none when the type is no integer or the value passes int64.
std::optional<std::int64_t> LoadInteger(GgufType type, const std::byte* data) {
  switch (type) {
    case GgufType::kUint8:
      return Load<std::uint8_t>(data);
    case GgufType::kInt8:
      return Load<std::int8_t>(data);
    case GgufType::kUint16:
      return Load<std::uint16_t>(data);
    case GgufType::kInt16:
      return Load<std::int16_t>(data);
    case GgufType::kUint32:
      return Load<std::uint32_t>(data);
    case GgufType::kInt32:
      return Load<std::int32_t>(data);
    case GgufType::kInt64:
      return Load<std::int64_t>(data);
    case GgufType::kUint64: {
      const auto value = Load<std::uint64_t>(data);
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return std::nullopt;
      return static_cast<std::int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

bool IsInteger(GgufType type) {
  return type <= GgufType::kInt32 || type == GgufType::kUint64 || type == GgufType::kInt64;
}

std::string_view LoadString(ByteCursor& cursor) {
  std::string_view text;
  return cursor.ReadString(text) ? text : std::string_view();
}

}  // namespace

absl::Status GgufFile::Error(std::string_view subject, std::string_view problem) const {
  return absl::InvalidArgumentError(
      absl::StrCat(name_, ": ", absl::CHexEscape(AbslView(subject)), ": ", AbslView(problem)));
}

absl::Status GgufFile::Append(GgufFile part) {
  for (TensorView& tensor : part.tensors_) {
    const std::string_view name = part.tensor_index_.find(tensor.name)->first;  // in the part's bytes
    if (!tensor_index_.emplace(name, tensors_.size()).second) {
      return part.Error(name, absl::StrCat("the tensor is also in ", name_));
    }
    tensors_.push_back(std::move(tensor));
  }
  return absl::OkStatus();
}

absl::StatusOr<GgufValue> GgufFile::Get(std::string_view key) const {
  const auto found = values_.find(key);
  if (found == values_.end()) return Error(key, "the key is missing");
  return found->second;
}

absl::StatusOr<std::int64_t> GgufFile::GetInteger(std::string_view key, std::int64_t minimum,
                                                  std::int64_t maximum) const {
  absl::StatusOr<GgufValue> value = Get(key);
  if (!value.ok()) return value.status();
  if (!IsInteger(value->type)) return Error(key, absl::StrCat("is a ", TypeName(value->type), ", not an integer"));
  const std::optional<std::int64_t> number = LoadInteger(value->type, value->bytes.data());
  if (!number.has_value() || *number < minimum || *number > maximum) {
    const std::string text = number.has_value() ? absl::StrCat(*number) : "more than 2^63";
    return Error(key, absl::StrCat(text, " is not in ", minimum, " to ", maximum));
  }
  return *number;
}

absl::StatusOr<double> GgufFile::GetFloat(std::string_view key) const {
  absl::StatusOr<GgufValue> value = Get(key);
  if (!value.ok()) return value.status();
  double number = 0.0;
  if (value->type == GgufType::kFloat32) {
    number = Load<float>(value->bytes.data());
  } else if (value->type == GgufType::kFloat64) {
    number = Load<double>(value->bytes.data());
  } else {
    return Error(key, absl::StrCat("is a ", TypeName(value->type), ", not a float"));
  }
  if (!std::isfinite(number)) return Error(key, "is not a finite number");
  return number;
}

absl::StatusOr<bool> GgufFile::GetBool(std::string_view key) const {
  absl::StatusOr<GgufValue> value = Get(key);
  if (!value.ok()) return value.status();
  if (value->type != GgufType::kBool) return Error(key, absl::StrCat("is a ", TypeName(value->type), ", not a bool"));
  return value->bytes[0] != std::byte{0};
}

absl::StatusOr<std::string_view> GgufFile::GetString(std::string_view key) const {
  absl::StatusOr<GgufValue> value = Get(key);
  if (!value.ok()) return value.status();
  if (value->type != GgufType::kString)
    return Error(key, absl::StrCat("is a ", TypeName(value->type), ", not a string"));
  ByteCursor cursor(value->bytes);
  return LoadString(cursor);
}

absl::StatusOr<std::vector<std::string_view>> GgufFile::GetStrings(std::string_view key) const {
  absl::StatusOr<GgufValue> value = Get(key);
  if (!value.ok()) return value.status();
  if (value->type != GgufType::kArray || value->element != GgufType::kString) {
    return Error(key, "is not an array of strings");
  }
  std::vector<std::string_view> strings(static_cast<std::size_t>(value->count));
  ByteCursor cursor(value->bytes);
  for (std::string_view& text : strings) text = LoadString(cursor);
  return strings;
}

absl::StatusOr<std::vector<std::int32_t>> GgufFile::GetIntegers(std::string_view key) const {
  absl::StatusOr<GgufValue> value = Get(key);
  if (!value.ok()) return value.status();
  if (value->type != GgufType::kArray || !IsInteger(value->element)) return Error(key, "is not an array of integers");
  std::vector<std::int32_t> numbers(static_cast<std::size_t>(value->count));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const std::optional<std::int64_t> number =
        LoadInteger(value->element, value->bytes.data() + i * Size(value->element));
    if (!number.has_value() || *number < std::numeric_limits<std::int32_t>::min() ||
        *number > std::numeric_limits<std::int32_t>::max()) {
      return Error(key, absl::StrCat("element ", i, " does not fit in 32 bits"));
    }
    numbers[i] = static_cast<std::int32_t>(*number);
  }
  return numbers;
}

absl::StatusOr<std::vector<float>> GgufFile::GetFloats(std::string_view key) const {
  absl::StatusOr<GgufValue> value = Get(key);
  if (!value.ok()) return value.status();
  if (value->type != GgufType::kArray || value->element != GgufType::kFloat32) {
    return Error(key, "is not an array of float32");
  }
  std::vector<float> numbers(static_cast<std::size_t>(value->count));
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = Load<float>(value->bytes.data() + i * sizeof(float));
  return numbers;
}

const TensorView* GgufFile::Find(std::string_view tensor) const {
  const auto found = tensor_index_.find(tensor);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace megakernel
