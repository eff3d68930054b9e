#include "server/model_description.h"

#include <utility>

#include "engine/core/request.h"
#include "engine/model/family.h"

namespace megakernel {
namespace {

// The request field behind each feature of an executor.
constexpr std::pair<Feature, const char*> kFeatureFields[] = {
    {Feature::kTemperature, "sampling.temperature"},
    {Feature::kTopK, "sampling.top_k"},
    {Feature::kTopP, "sampling.top_p"},
    {Feature::kMinP, "sampling.min_p"},
    {Feature::kRepetitionPenalty, "sampling.repetition_penalty"},
    {Feature::kPresencePenalty, "sampling.presence_penalty"},
    {Feature::kFrequencyPenalty, "sampling.frequency_penalty"},
    {Feature::kLogitBias, "sampling.logit_bias"},
    {Feature::kAllowedTokens, "sampling.allowed_token_ids"},
    {Feature::kMinTokens, "stopping.min_tokens"},
    {Feature::kLogprobs, "output.logprobs"},
    {Feature::kPromptLogprobs, "output.prompt_logprobs"},
};
static_assert(std::size(kFeatureFields) == static_cast<std::size_t>(Feature::kNumFeatures));

// Fields that the engine honours whatever the executor.
constexpr const char* kEngineFields[] = {
    "sampling.seed",
    "stopping.max_tokens",
    "stopping.stop",
    "stopping.stop_token_ids",
    "stopping.ignore_eos",
    "stopping.include_stop",
    "output.text",
    "output.token_ids",
    "output.skip_special_tokens",
    "num_sequences",
};

// What a request gets that leaves a number out.
void FillDefaults(const SamplingParams& defaults, v1::SamplingParameters& message) {
  message.set_temperature(defaults.temperature);
  message.set_top_k(defaults.top_k);
  message.set_top_p(defaults.top_p);
  message.set_min_p(defaults.min_p);
  message.set_repetition_penalty(defaults.repetition_penalty);
  message.set_presence_penalty(defaults.presence_penalty);
  message.set_frequency_penalty(defaults.frequency_penalty);
}

}  // namespace

SamplingParams ServedDefaults(const SamplingDefaults& recommended, const ExecutorInfo& executor) {
  SamplingParams defaults;
  if (executor.Has(Feature::kTemperature)) defaults.temperature = recommended.temperature;
  if (executor.Has(Feature::kTopK)) defaults.top_k = recommended.top_k;
  if (executor.Has(Feature::kTopP)) defaults.top_p = recommended.top_p;
  if (executor.Has(Feature::kMinP)) defaults.min_p = recommended.min_p;
  if (executor.Has(Feature::kRepetitionPenalty)) defaults.repetition_penalty = recommended.repetition_penalty;
  return defaults;
}

v1::GetModelResponse DescribeModel(const Model& model, const ExecutorInfo& executor, const ServingLimits& limits,
                                   const std::string& instance_id) {
  v1::GetModelResponse response;
  const ModelConfig& config = model.config();
  response.set_name(config.name);
  response.set_family(std::string(FactsOf(config.family).name));
  response.set_identity(model.identity());
  response.set_vocab_size(config.vocab);
  response.set_max_context(limits.max_context);
  response.mutable_eos_token_ids()->Add(config.eos_tokens.begin(), config.eos_tokens.end());
  response.set_has_chat_template(model.chat_template() != nullptr);
  FillDefaults(ServedDefaults(config.sampling, executor), *response.mutable_default_sampling());
  response.set_instance_id(instance_id);
  response.set_version(VersionText());

  v1::Capabilities& capabilities = *response.mutable_capabilities();
  capabilities.set_device(executor.device);
  for (const auto& [feature, field] : kFeatureFields) {
    if (executor.Has(feature)) capabilities.add_parameters(field);
  }
  for (const char* field : kEngineFields) capabilities.add_parameters(field);
  capabilities.set_max_logprobs(executor.max_logprobs);
  capabilities.set_max_lanes(executor.max_lanes);
  capabilities.set_max_rows(executor.max_rows);
  capabilities.set_kv_type(executor.kv_type);
  capabilities.set_page_tokens(executor.page_tokens);
  capabilities.set_num_pages(executor.num_pages);
  capabilities.set_max_queue(limits.max_queue);
  capabilities.set_max_sessions(limits.max_sessions);
  return response;
}

const char* VersionText() {
  return MEGAKERNEL_VERSION;
}

}  // namespace megakernel
