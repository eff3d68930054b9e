// A Hugging Face model directory: config.json, model.safetensors or its shards, tokenizer and chat template.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/model.h"

namespace megakernel {

// Opens `directory`: config.json; generation_config.json where it exists (end tokens, sampling defaults);
// model.safetensors, or model.safetensors.index.json and the shards it names. Tensors are views of the mapped files.
// Every tensor that the config implies must be there with its shape, and no other one may be, save lm_head.weight of a
// model with a tied embedding and rotary tables, which transformers ignores as well. The index and the shards must name
// the same tensors. InvalidArgument or NotFound, naming file and tensor or key.
// tokenizer.json (hf_tokenizer.h) and the chat template (hf_chat.h) are read where they exist; without tokenizer.json
// has_tokenizer() is false. `progress` is told of the safetensors files, stage "read".
absl::StatusOr<std::unique_ptr<Model>> LoadHfModel(const std::string& directory, const LoadProgress& progress = {});

}  // namespace megakernel
