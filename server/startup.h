// From options to an engine: the model, the executor and the memory they get.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/clock.h"
#include "engine/core/engine.h"
#include "engine/model/model.h"
#include "server/model_description.h"
#include "server/options.h"

namespace megakernel {

// What serves, in the order in which it must be made; destroyed in the opposite order.
struct ServingStack {
  std::unique_ptr<Model> model;
  std::unique_ptr<Engine> engine;
  ServingLimits limits;
};

// Loads the model, chooses the executor and starts the engine; logs model, device, reason and memory budget.
// Errors name the option or file at fault, need and have. `clock` outlives
// the engine; `quotas` too, and may be null. `on_failure` is that of EngineOptions.
absl::StatusOr<ServingStack> BuildServingStack(const ServerOptions& options, Clock& clock, TenantQuotas* quotas,
                                               std::function<void(const EngineFailure&)> on_failure);

// What --device auto takes, and why.
struct DeviceChoice {
  std::string device;  // "cpu", "cuda" or "fake"
  std::string reason;
};

// InvalidArgument when a device that was named is not in this build, FailedPrecondition when it cannot be used.
absl::StatusOr<DeviceChoice> ChooseDevice(const std::string& device);

}  // namespace megakernel
