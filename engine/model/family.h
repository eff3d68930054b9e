// The families of models that are understood: one row each.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "engine/model/model.h"

namespace megakernel {

struct FamilyFacts {
  Family family;
  std::string_view name;      // general.architecture of GGUF, model_type of config.json
  std::string_view hf_class;  // the one entry of `architectures` in config.json
  bool qk_norm;               // RMS norm of every query and key head
  bool qkv_bias;
  bool gguf_permuted;  // GGUF holds the rows of Q and K for RoPE on neighbours
};

// Llama 2 and 3.x and SmolLM2 are of family llama, Qwen2.5 of qwen2. Source: transformers
// (modeling_{llama,qwen2,qwen3}.py) and llama.cpp (convert_hf_to_gguf.py).
std::span<const FamilyFacts> Families();

// Null when the name is not known.
const FamilyFacts* FindFamily(std::string_view name);
// REQUIRES: a family of the table.
const FamilyFacts& FactsOf(Family family);

// "llama, qwen2, qwen3", for messages.
std::string FamilyNames();

// Takes over what the family alone decides.
void ApplyFamily(const FamilyFacts& facts, ModelConfig& config);

}  // namespace megakernel
