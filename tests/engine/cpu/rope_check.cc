#include "tests/engine/cpu/rope_check.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/cpu/isa.h"
#include "engine/cpu/rope_table.h"
#include "engine/model/hf_config.h"
#include "tests/engine/cpu/error_model.h"
#include "tests/support/temp_checkpoint.h"
#include "tests/support/weight_generator.h"

namespace megakernel::test {
namespace {

struct Goldens {
  std::string source;
  ModelConfig config;
  std::vector<std::int32_t> positions;
  std::vector<float> rows;
};

absl::StatusOr<Goldens> Read(const std::string& prefix) {
  Goldens goldens;
  std::ifstream text(prefix + ".json");
  if (!text) return absl::NotFoundError(absl::StrCat(prefix, ".json: cannot open"));
  std::string preset;
  try {
    const auto json = nlohmann::json::parse(text);
    goldens.source = json.at("source").get<std::string>();
    preset = json.at("config").get<std::string>();
    goldens.positions = json.at("positions").get<std::vector<std::int32_t>>();
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(prefix, ".json: ", error.what()));
  }
  MK_ASSIGN_OR_RETURN(goldens.config, ParseHfConfig(PresetText(preset), preset));
  for (const std::int32_t position : goldens.positions) {
    if (position < 0 || position >= goldens.config.max_context) {
      return absl::InvalidArgumentError(absl::StrCat(prefix, ".json: position ", position));
    }
  }
  std::ifstream file(prefix + ".rows", std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const std::size_t half = static_cast<std::size_t>(goldens.config.head_dim) / 2;
  goldens.rows.resize(half + goldens.positions.size() * 4 * half);
  if (goldens.positions.empty() || bytes.size() != goldens.rows.size() * sizeof(float)) {
    return absl::InvalidArgumentError(absl::StrCat(prefix, ".rows: ", bytes.size(), " bytes"));
  }
  std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(goldens.rows.data()));
  return goldens;
}

class Comparison {
 public:
  Comparison(const ModelConfig& config, RopeReport& report)
      : config_(config), half_(config.head_dim / 2), head_(static_cast<std::size_t>(config.head_dim)), report_(report) {
    GenerateWeights(1, Fnv1a64("head"), {0.0, 1.0}, 0, head_);
  }

  // `row`: cosines, sines, rotated head.
  void Position(std::int32_t position, const cpu::RopeTable& table, std::span<const float> row) {
    for (std::int32_t i = 0; i < half_; ++i) {
      Take(table.Cosines(position)[i] - double{row[i]}, Bound(position, i), report_.table_error);
      Take(table.Sines(position)[i] - double{row[half_ + i]}, Bound(position, i), report_.table_error);
    }
    for (const CpuIsa isa : cpu::WorkingIsas()) {
      std::vector<float> head = head_;
      (*cpu::KernelsFor(isa))
          ->rotate(head.data(), table.Cosines(position), table.Sines(position), config_.head_dim, 1.0f);
      for (std::int32_t i = 0; i < config_.head_dim; ++i) {
        const std::int32_t pair = i % half_;
        const double size = std::abs(head_[pair]) + std::abs(head_[pair + half_]);
        Take(head[i] - double{row[2 * half_ + i]}, size * (Bound(position, pair) + 3 * kFloatUnit), report_.head_error);
      }
    }
  }

 private:
  double Bound(std::int32_t position, std::int32_t pair) const {
    const double frequency = std::pow(config_.rope_theta, -2.0 * pair / config_.head_dim);
    const double roundings = (config_.rope_scaling == RopeScaling::kLlama3 ? 16 : 4) + 2;
    return (position * frequency * roundings + 3) * kFloatUnit;
  }

  void Take(double difference, double bound, double& largest) {
    ++report_.values;
    const double error = std::isfinite(difference) ? std::abs(difference) : std::numeric_limits<double>::infinity();
    largest = std::max(largest, error);
    report_.share = std::max(report_.share, error / bound);
  }

  const ModelConfig& config_;
  const std::int32_t half_;
  std::vector<float> head_;
  RopeReport& report_;
};

}  // namespace

absl::StatusOr<RopeReport> CheckRope(const std::string& prefix) {
  MK_ASSIGN_OR_RETURN(const Goldens goldens, Read(prefix));
  RopeReport report;
  report.source = goldens.source;
  report.last = *std::max_element(goldens.positions.begin(), goldens.positions.end());
  report.positions = static_cast<std::int64_t>(goldens.positions.size());
  const cpu::RopeTable table(goldens.config, report.last + 1);
  Comparison comparison(goldens.config, report);
  const std::size_t half = static_cast<std::size_t>(goldens.config.head_dim) / 2;
  for (std::size_t i = 0; i < goldens.positions.size(); ++i) {
    comparison.Position(goldens.positions[i], table, std::span(goldens.rows).subspan(half + i * 4 * half, 4 * half));
  }
  return report;
}

}  // namespace megakernel::test
