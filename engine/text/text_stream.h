// Token bytes to text that may be shown: whole characters, and nothing of a stop string.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/utf8.h"

namespace megakernel {

// One per generated sequence. Not thread-safe.
// The concatenation of all returned text equals the whole output decoded at once and cut at the first stop string: the
// one that is complete first, and of several that end at the same character the longest. How the bytes are split over
// Push calls makes no difference.
// Holds back at most 3 bytes of an unfinished character and the longest tail that may still become a stop string.
// Takes time linear in the bytes for each stop string, whatever they are.
class TextStream {
 public:
  // Stop strings are well-formed UTF-8; empty ones are ignored. With `include_stop` a matched stop string stays in the
  // text.
  TextStream(std::vector<std::string> stops, bool include_stop);

  // Adds the bytes of one token and appends to `text` what may be shown now. True when a stop string is complete:
  // nothing more may be pushed.
  bool Push(std::string_view bytes, std::string& text);

  // The end of the output: appends what was held back; an unfinished character becomes U+FFFD. A no-op after a match.
  void Finish(std::string& text);

  // The stop string that matched; empty when none.
  const std::string& matched_stop() const { return matched_; }

 private:
  // How much of one stop string the text so far ends with (Knuth, Morris and Pratt).
  class StopMatcher {
   public:
    explicit StopMatcher(std::string stop);
    void Advance(char c);  // REQUIRES: !complete()
    bool complete() const { return matched_ == text_.size(); }
    std::size_t matched() const { return matched_; }
    const std::string& text() const { return text_; }

   private:
    std::string text_;
    std::vector<std::size_t> fallback_;  // by bytes matched: the longest shorter prefix that is also a suffix
    std::size_t matched_ = 0;
  };

  // Moves decoded_ through the matchers; appends to `text` what no stop string can claim. True on a match.
  bool Release(std::string& text);

  std::vector<StopMatcher> stops_;
  bool include_stop_;
  Utf8Decoder decoder_;
  std::string decoded_;  // whole characters of the current Push
  std::string held_;     // text that may still become a stop string
  std::string matched_;
};

}  // namespace megakernel
