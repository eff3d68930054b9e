#include "engine/model/family.h"

#include <algorithm>

namespace megakernel {
namespace {

constexpr FamilyFacts kFamilies[] = {
    // family, name, hf_class, qk_norm, qkv_bias, gguf_permuted
    {Family::kLlama, "llama", "LlamaForCausalLM", false, false, true},
    {Family::kQwen2, "qwen2", "Qwen2ForCausalLM", false, true, false},
    {Family::kQwen3, "qwen3", "Qwen3ForCausalLM", true, false, false},
};

}  // namespace

std::span<const FamilyFacts> Families() {
  return kFamilies;
}

const FamilyFacts* FindFamily(std::string_view name) {
  const auto* found = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                   [name](const FamilyFacts& facts) { return facts.name == name; });
  return found == std::end(kFamilies) ? nullptr : found;
}

const FamilyFacts& FactsOf(Family family) {
  return *std::find_if(std::begin(kFamilies), std::end(kFamilies),
                       [family](const FamilyFacts& facts) { return facts.family == family; });
}

std::string FamilyNames() {
  std::string names;
  for (const FamilyFacts& facts : kFamilies) names.append(names.empty() ? "" : ", ").append(facts.name);
  return names;
}

void ApplyFamily(const FamilyFacts& facts, ModelConfig& config) {
  config.family = facts.family;
  config.name = facts.name;
  config.qk_norm = facts.qk_norm;
  config.qkv_bias = facts.qkv_bias;
}

}  // namespace megakernel
