// A model in one GGUF file, or split over several (gguf_parts.h).
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/model.h"

namespace megakernel {

// Opens a GGUF file: container, metadata, tensors, tokenizer, chat template. Reads every byte once, to check the
// numbers and to make identity(): a Digest of the whole file. InvalidArgument (NotFound when there is no such file),
// naming the file, the key or tensor, and the limit. `progress` is told of two passes, stages "check" and "digest".
absl::StatusOr<std::unique_ptr<Model>> LoadGgufModel(const std::string& path, const LoadProgress& progress = {});

}  // namespace megakernel
