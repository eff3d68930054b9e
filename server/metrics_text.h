// Writes Prometheus' text format.
#pragma once

#include <string>
#include <string_view>

#include "engine/core/metrics.h"

namespace megakernel {

// One family at a time: Family, then its samples. Not thread-safe.
class MetricsText {
 public:
  // `type`: "gauge", "counter" or "histogram".
  void Family(std::string_view name, std::string_view type, std::string_view help);
  // Of the last family. `labels`: `name="value",...` without braces, values escaped (Label); may be empty.
  void Sample(double value, std::string_view labels = {});
  // All samples of a histogram without labels, seconds.
  void Histogram(const HistogramSnapshot& histogram);

  // `name="value"`, escaped.
  static std::string Label(std::string_view name, std::string_view value);

  const std::string& text() const { return text_; }

 private:
  void Line(std::string_view suffix, std::string_view labels, double value);

  std::string name_;
  std::string text_;
};

}  // namespace megakernel
