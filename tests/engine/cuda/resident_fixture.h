// A resident executor over a simulated device, driven by hand.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "engine/cuda/resident_executor.h"
#include "engine/executor/fake_executor.h"
#include "tests/engine/cpu/runner.h"
#include "tests/support/simulated_device.h"

namespace megakernel::test {

inline SimulatedOptions SmallDevice() {
  SimulatedOptions options;
  options.fake.max_lanes = 8;
  options.fake.max_context = 4096;
  options.fake.vocab = 500;
  options.fake.page_tokens = 4;
  options.fake.num_pages = 20000;
  return options;
}

struct ResidentRig {
  explicit ResidentRig(const SimulatedOptions& options = SmallDevice())
      : ResidentRig(options, std::make_unique<SimulatedDevice>(options)) {}

  // What a sequence gives alone.
  std::vector<TokenId> Expected(const Ask& ask) const {
    return FakeGenerate(options.fake, ask.tokens, ask.sampling, ask.max_tokens);
  }
  bool Returned() const {
    std::string error;
    return device->State(error) == host::KernelState::kReturned;
  }

  SimulatedOptions options;
  SimulatedDevice* device;
  Runner runner;

 private:
  ResidentRig(const SimulatedOptions& given, std::unique_ptr<SimulatedDevice> simulated)
      : options(given),
        device(simulated.get()),
        runner(NewResidentExecutor(device->program(), "simulated", std::move(simulated),
                                   {.spin = absl::Microseconds(20), .nap = absl::Microseconds(200)})) {}
};

inline Ask Prompt(int length, int max_tokens, std::uint32_t seed = 1) {
  Ask ask;
  ask.tokens = RandomTokens(length, 500, seed * 1000 + static_cast<std::uint32_t>(length));
  ask.max_tokens = max_tokens;
  ask.sampling.logprobs = -1;
  return ask;
}

}  // namespace megakernel::test
