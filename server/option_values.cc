#include "server/option_values.h"

#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace megakernel {
namespace {

constexpr std::pair<std::string_view, int> kUnits[] = {{"t", 40}, {"g", 30}, {"m", 20}, {"k", 10}};

}  // namespace

absl::StatusOr<std::int64_t> ParseSize(std::string_view text) {
  const absl::Status bad = absl::InvalidArgumentError(
      absl::StrCat("\"", std::string(text), "\" is not a size; write bytes or a number with KiB, MiB, GiB or TiB"));
  std::string lower = absl::AsciiStrToLower(absl::string_view(text.data(), text.size()));
  absl::string_view rest = absl::StripAsciiWhitespace(lower);
  if (!absl::ConsumeSuffix(&rest, "ib")) absl::ConsumeSuffix(&rest, "b");
  int shift = 0;
  for (const auto& [unit, bits] : kUnits) {
    if (absl::ConsumeSuffix(&rest, absl::string_view(unit.data(), unit.size()))) {
      shift = bits;
      break;
    }
  }
  rest = absl::StripTrailingAsciiWhitespace(rest);
  double number = 0;
  const bool plain = rest.find_first_not_of("0123456789.") == rest.npos;  // no exponents, signs, hexadecimal or "inf"
  if (!plain || !absl::SimpleAtod(rest, &number)) {
    return bad;
  }
  const double bytes = std::ldexp(number, shift);
  if (!(bytes >= 0) || bytes >= 9.0e18 || bytes != std::floor(bytes)) return bad;
  return static_cast<std::int64_t>(bytes);
}

std::string FormatSize(std::int64_t bytes) {
  for (const auto& [unit, bits] : kUnits) {
    const std::int64_t one = std::int64_t{1} << bits;
    if (bytes >= one && bytes % one == 0) {
      return absl::StrCat(bytes / one, absl::AsciiStrToUpper(absl::string_view(unit.data(), unit.size())), "iB");
    }
  }
  return absl::StrCat(bytes);
}

std::string HumanBytes(std::int64_t bytes) {
  const double value = static_cast<double>(bytes);
  if (value >= 1e9) return absl::StrFormat("%.2f GB", value / 1e9);
  if (value >= 1e6) return absl::StrFormat("%.1f MB", value / 1e6);
  if (value >= 1e3) return absl::StrFormat("%.1f kB", value / 1e3);
  return absl::StrFormat("%d bytes", bytes);
}

}  // namespace megakernel
