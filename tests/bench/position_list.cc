#include "tests/bench/position_list.h"

#include <cstdio>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace megakernel::bench {

absl::StatusOr<std::vector<std::int32_t>> ParsePositions(const std::string& text, std::int32_t limit) {
  std::set<std::int32_t> positions;
  std::stringstream items(text);
  for (std::string item; std::getline(items, item, ',');) {
    int first = -1, last = -1, step = 1, used = 0;
    const bool range = std::sscanf(item.c_str(), "%d-%d%n", &first, &last, &used) == 2;
    if (!range) {
      used = 0;
      std::sscanf(item.c_str(), "%d%n", &first, &used);
      last = first;
    } else if (used < static_cast<int>(item.size())) {
      int more = 0;
      std::sscanf(item.c_str() + used, ":%d%n", &step, &more);
      used += more;
    }
    if (used != static_cast<int>(item.size()) || item.empty() || first < 0 || last < first || last >= limit ||
        step < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", item, "\" is not a position or a range such as 0-255:16 below ", limit));
    }
    for (std::int32_t position = first; position <= last; position += step) positions.insert(position);
  }
  if (positions.empty()) return absl::InvalidArgumentError("no positions given");
  return std::vector<std::int32_t>(positions.begin(), positions.end());
}

}  // namespace megakernel::bench
