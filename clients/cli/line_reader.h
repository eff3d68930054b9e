// Lines from stdin, with signals seen while waiting.
#pragma once

#include <string>

#include "clients/cli/interrupts.h"

namespace megakernel::cli {

// Not thread-safe. Nothing else may read stdin.
class LineReader {
 public:
  enum class Event { kLine, kEnd, kSignal };

  explicit LineReader(Interrupts* interrupts) : interrupts_(interrupts) {}

  // Waits for a line (without its line break, in `*line`), the end of the input, or a signal (in `*signal`). The rest
  // of an input that ends without a line break is a line.
  Event Next(std::string* line, int* signal);

 private:
  Interrupts* const interrupts_;
  std::string buffer_;
  bool ended_ = false;
};

}  // namespace megakernel::cli
