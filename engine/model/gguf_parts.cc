#include "engine/model/gguf_parts.h"

#include <cstdint>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace megakernel {
namespace {

constexpr char kNumber[] = "split.no";
constexpr char kCount[] = "split.count";
constexpr char kTensors[] = "split.tensors.count";

std::string Ending(std::size_t number, std::size_t count) {
  return absl::StrFormat("-%05d-of-%05d.gguf", number, count);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> OtherParts(const GgufFile& first) {
  std::vector<std::string> paths;
  if (!first.Has(kCount)) return paths;
  absl::StatusOr<std::int64_t> count = first.GetInteger(kCount, 0, kMaxGgufParts);
  if (!count.ok()) return count.status();
  if (*count <= 1) return paths;
  absl::StatusOr<std::int64_t> number = first.GetInteger(kNumber, 0, *count - 1);
  if (!number.ok()) return number.status();
  if (*number != 0) {
    return first.Error(kNumber, absl::StrCat("this is part ", *number + 1, " of ", *count, "; open the first one"));
  }
  const auto total = static_cast<std::size_t>(*count);
  const std::string ending = Ending(1, total);
  if (!first.name().ends_with(ending)) {
    return first.Error(kCount, absl::StrCat("the first of ", *count, " parts must have a name that ends in ", ending));
  }
  const std::string stem = first.name().substr(0, first.name().size() - ending.size());
  for (std::size_t i = 2; i <= total; ++i) paths.push_back(stem + Ending(i, total));
  return paths;
}

absl::Status CheckPart(const GgufFile& part, std::size_t index, std::size_t count) {
  constexpr std::int64_t kMax = std::numeric_limits<std::int32_t>::max();
  absl::StatusOr<std::int64_t> parts = part.GetInteger(kCount, 0, kMax);
  if (!parts.ok()) return parts.status();
  absl::StatusOr<std::int64_t> number = part.GetInteger(kNumber, 0, kMax);
  if (!number.ok()) return number.status();
  if (static_cast<std::size_t>(*parts) == count && static_cast<std::size_t>(*number) == index) return absl::OkStatus();
  return part.Error(kNumber, absl::StrCat("the file says part ", *number + 1, " of ", *parts, ", its name says part ",
                                          index + 1, " of ", count));
}

absl::Status CheckTensorCount(const GgufFile& model) {
  if (!model.Has(kTensors)) return absl::OkStatus();
  absl::StatusOr<std::int64_t> count = model.GetInteger(kTensors, 0, std::numeric_limits<std::int32_t>::max());
  if (!count.ok()) return count.status();
  if (static_cast<std::size_t>(*count) == model.tensors().size()) return absl::OkStatus();
  return model.Error(kTensors, absl::StrCat(*count, " tensors, but the parts hold ", model.tensors().size()));
}

}  // namespace megakernel
