#include "server/metrics_text.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace megakernel {
namespace {

// Whole numbers in full, others as short as they can be told apart.
std::string Number(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return absl::StrFormat("%.0f", value);
  return absl::StrFormat("%.9g", value);
}

}  // namespace

void MetricsText::Family(std::string_view name, std::string_view type, std::string_view help) {
  name_ = std::string(name);
  absl::StrAppend(&text_, "# HELP ", name_, " ", std::string(help), "\n# TYPE ", name_, " ", std::string(type), "\n");
}

void MetricsText::Line(std::string_view suffix, std::string_view labels, double value) {
  absl::StrAppend(&text_, name_, std::string(suffix));
  if (!labels.empty()) absl::StrAppend(&text_, "{", std::string(labels), "}");
  absl::StrAppend(&text_, " ", Number(value), "\n");
}

void MetricsText::Sample(double value, std::string_view labels) {
  Line("", labels, value);
}

void MetricsText::Histogram(const HistogramSnapshot& histogram) {
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < histogram.counts.size(); ++i) {
    below += histogram.counts[i];
    const std::string bound = i < histogram.bounds.size() ? Number(histogram.bounds[i]) : "+Inf";
    Line("_bucket", Label("le", bound), static_cast<double>(below));
  }
  Line("_sum", {}, histogram.sum);
  Line("_count", {}, static_cast<double>(below));
}

std::string MetricsText::Label(std::string_view name, std::string_view value) {
  std::string label(name);
  label += "=\"";
  for (const char c : value) {
    if (c == '\\' || c == '"') label += '\\';
    if (c == '\n') {
      label += "\\n";
    } else {
      label += c;
    }
  }
  return label + '"';
}

}  // namespace megakernel
