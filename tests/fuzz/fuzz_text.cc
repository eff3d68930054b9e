// Stop strings and UTF-8: whatever the bytes and however they are split, what is shown is the whole output decoded at
// once and cut at the first stop string.
#include <string>
#include <vector>

#include "engine/base/check.h"
#include "engine/text/text_stream.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/input_reader.h"

namespace megakernel {
namespace {

// The same, the obvious way. `matched` gets the stop string.
std::string CutAtFirstStop(const std::string& text, const std::vector<std::string>& stops, bool include_stop,
                           std::string& matched) {
  std::size_t first_end = std::string::npos;
  for (const std::string& stop : stops) {
    if (stop.empty()) continue;
    const std::size_t at = text.find(stop);
    if (at == std::string::npos) continue;
    const std::size_t end = at + stop.size();
    if (end < first_end || (end == first_end && stop.size() > matched.size())) {
      first_end = end;
      matched = stop;
    }
  }
  if (first_end == std::string::npos) return text;
  return text.substr(0, include_stop ? first_end : first_end - matched.size());
}

}  // namespace
}  // namespace megakernel

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace megakernel;
  test::InputReader input(data, size);
  const std::uint8_t head = input.Byte();
  const bool include_stop = (head & 1) != 0;
  std::vector<std::string> stops;
  for (int i = 0; i < (head >> 1) % 5; ++i) stops.push_back(ToValidUtf8(input.Text(12)));
  const std::size_t piece = 1 + input.Byte() % 9;
  const std::string bytes(input.Rest());

  std::string matched;
  const std::string expected = CutAtFirstStop(ToValidUtf8(bytes), stops, include_stop, matched);
  TextStream stream(stops, include_stop);
  std::string shown;
  bool stopped = false;
  for (std::size_t at = 0; at < bytes.size() && !stopped; at += piece) {
    stopped = stream.Push(std::string_view(bytes).substr(at, piece), shown);
    MK_CHECK(stopped || expected.starts_with(shown));  // nothing is shown that has to be taken back
  }
  stream.Finish(shown);
  MK_CHECK(shown == expected);
  MK_CHECK(stream.matched_stop() == matched);
  return 0;
}
