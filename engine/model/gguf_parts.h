// Models that are split over several GGUF files, as llama.cpp's gguf-split writes them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/gguf_file.h"

namespace megakernel {

inline constexpr int kMaxGgufParts = 1024;

// Paths of parts 2, 3, ... of the model whose first part is `first`; none when it is whole. The name of the first must
// end in -00001-of-NNNNN.gguf with as many parts as its key split.count says. InvalidArgument, also for a later part.
absl::StatusOr<std::vector<std::string>> OtherParts(const GgufFile& first);

// Whether `part` says that it is number `index` (the first is 0) of `count`.
absl::Status CheckPart(const GgufFile& part, std::size_t index, std::size_t count);

// Whether the model, with all parts appended, has as many tensors as its first part says.
absl::Status CheckTensorCount(const GgufFile& model);

}  // namespace megakernel
