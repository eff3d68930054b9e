// Signals as events: Ctrl-C stops a reply and not the program, and a program that is told to end can clean up.
#pragma once

#include "absl/functional/function_ref.h"

namespace megakernel::cli {

// Takes SIGINT, SIGTERM and SIGHUP away from their default action for the rest of the process. Not thread-safe.
class Interrupts {
 public:
  // REQUIRES: no thread was started yet; threads inherit which signals they leave alone.
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // Readable while a signal waits.
  int fd() const { return signal_fd_; }

  // The signal that waits, taken; 0 if none does. Does not block.
  int Take();

  // Runs `work` on this thread; each signal meanwhile calls `interrupt` from another one. Returns the last signal, 0 if
  // none came.
  int During(absl::FunctionRef<void()> interrupt, absl::FunctionRef<void()> work);

 private:
  int signal_fd_;
};

}  // namespace megakernel::cli
