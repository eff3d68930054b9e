// Token bytes to text that may be shown: whole characters, and nothing of a stop string.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace megakernel {

// One per generated sequence. Not thread-safe.
// The concatenation of all returned text equals the whole output decoded at once and cut at the first stop string.
// Holds back at most 3 bytes of an unfinished character and the longest tail that may still become a stop string.
class TextStream {
 public:
  // With `include_stop` a matched stop string stays in the text.
  TextStream(std::vector<std::string> stops, bool include_stop);

  // Adds the bytes of one token and appends to `text` what may be shown now. True when a stop string is complete:
  // nothing more may be pushed.
  bool Push(std::string_view bytes, std::string& text);

  // The end of the output: appends what was held back; an unfinished character becomes U+FFFD.
  void Finish(std::string& text);

  // The stop string that matched; empty when none.
  const std::string& matched_stop() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  bool include_stop_;
  std::string held_;
  std::string matched_;
};

}  // namespace megakernel
