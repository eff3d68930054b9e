// GetModel's answer: the model, and what this server can do with it.
#pragma once

#include <string>

#include "engine/executor/executor.h"
#include "engine/model/model.h"
#include "megakernel/v1/inference_service.pb.h"

namespace megakernel {

struct ServingLimits {
  std::int32_t max_context = 0;
  std::int32_t max_queue = 0;
  std::int32_t max_sessions = 0;
};

// What the model's files recommend, as far as the executor can do it; the rest is off.
SamplingParams ServedDefaults(const SamplingDefaults& recommended, const ExecutorInfo& executor);

v1::GetModelResponse DescribeModel(const Model& model, const ExecutorInfo& executor, const ServingLimits& limits,
                                   const std::string& instance_id);

// The version of this program.
const char* VersionText();

}  // namespace megakernel
