// Numbers that a request leaves out: the model's recommendation, as far as the executor can follow it.
#include <gtest/gtest.h>

#include "server/model_description.h"
#include "server/request_conversion.h"

namespace megakernel {
namespace {

constexpr SamplingDefaults kRecommended = {
    .temperature = 0.6f, .top_k = 20, .top_p = 0.95f, .min_p = 0.1f, .repetition_penalty = 1.05f};

ExecutorInfo With(std::initializer_list<Feature> features) {
  ExecutorInfo info;
  for (const Feature feature : features) info.features |= 1u << static_cast<std::uint32_t>(feature);
  return info;
}

TEST(SamplingDefaultsTest, AreTheModels) {
  const SamplingParams defaults = ServedDefaults(
      kRecommended,
      With({Feature::kTemperature, Feature::kTopK, Feature::kTopP, Feature::kMinP, Feature::kRepetitionPenalty}));
  EXPECT_EQ(defaults.temperature, 0.6f);
  EXPECT_EQ(defaults.top_k, 20);
  EXPECT_EQ(defaults.top_p, 0.95f);
  EXPECT_EQ(defaults.min_p, 0.1f);
  EXPECT_EQ(defaults.repetition_penalty, 1.05f);
}

TEST(SamplingDefaultsTest, WhatTheExecutorCannotDoStaysOff) {
  const SamplingParams defaults = ServedDefaults(kRecommended, With({Feature::kTemperature}));
  EXPECT_EQ(defaults.temperature, 0.6f);
  EXPECT_EQ(defaults.top_k, 0);
  EXPECT_EQ(defaults.top_p, 1.0f);
  EXPECT_EQ(defaults.min_p, 0.0f);
  EXPECT_EQ(defaults.repetition_penalty, 1.0f);
}

TEST(SamplingDefaultsTest, ARequestsOwnNumbersComeFirst) {
  SamplingParams defaults;
  defaults.temperature = 0.6f;
  defaults.top_k = 20;
  v1::SamplingParameters sampling;
  sampling.set_temperature(0.0f);
  const auto request = ConvertParameters(defaults, sampling, {}, {});
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->sampling.temperature, 0.0f);
  EXPECT_EQ(request->sampling.top_k, 20);
}

}  // namespace
}  // namespace megakernel
