// How a call learns that the engine has something for it.
#pragma once

#include <memory>

namespace megakernel {

class Pumped {
 public:
  virtual ~Pumped() = default;
  // Writes what there is. Does not wait.
  virtual void PumpTokens() = 0;
};

// Thread-safe.
class Pump {
 public:
  virtual ~Pump() = default;
  // PumpTokens of `call` will be called, on another thread, in order of entering. Called by the engine's thread: does
  // not wait.
  virtual void Enter(std::shared_ptr<Pumped> call) = 0;
};

}  // namespace megakernel
