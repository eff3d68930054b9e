#include "tests/support/logit_dump.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>

#include "absl/strings/str_cat.h"
#include "kernels/layout/sampling.h"

namespace megakernel::test {
namespace {

std::int32_t Argmax(std::span<const float> row) {
  return static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

}  // namespace

std::int64_t LogitDump::NumRows() const {
  std::int64_t rows = 0;
  for (const LogitSequence& sequence : sequences) rows += static_cast<std::int64_t>(sequence.positions.size());
  return rows;
}

absl::StatusOr<LogitDump> ReadLogitDump(const std::string& prefix) {
  LogitDump dump;
  std::ifstream text(prefix + ".json");
  if (!text) return absl::NotFoundError(absl::StrCat(prefix, ".json: cannot open"));
  try {
    const auto json = nlohmann::json::parse(text);
    dump.source = json.at("source").get<std::string>();
    dump.vocab = json.at("vocab").get<std::int32_t>();
    for (const auto& sequence : json.at("sequences")) {
      dump.sequences.push_back({sequence.at("tokens").get<std::vector<std::int32_t>>(),
                                sequence.at("positions").get<std::vector<std::int32_t>>()});
    }
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(prefix, ".json: ", error.what()));
  }
  for (const LogitSequence& sequence : dump.sequences) {
    const bool sorted = std::is_sorted(sequence.positions.begin(), sequence.positions.end());
    const auto count = static_cast<std::int32_t>(sequence.tokens.size());
    if (!sorted || sequence.positions.empty() || sequence.positions.front() < 0 || sequence.positions.back() >= count) {
      return absl::InvalidArgumentError(absl::StrCat(prefix, ".json: positions must ascend within the tokens"));
    }
  }
  std::ifstream values(prefix + ".f32", std::ios::binary);
  dump.rows.resize(static_cast<std::size_t>(dump.NumRows() * dump.vocab));
  const auto bytes = static_cast<std::streamsize>(dump.rows.size() * sizeof(float));
  values.read(reinterpret_cast<char*>(dump.rows.data()), bytes);
  if (values.gcount() != bytes || values.peek() != std::ifstream::traits_type::eof()) {
    return absl::InvalidArgumentError(absl::StrCat(prefix, ".f32: does not hold ", bytes, " bytes"));
  }
  return dump;
}

absl::Status WriteLogitDump(const LogitDump& dump, const std::string& prefix) {
  nlohmann::ordered_json json;
  json["source"] = dump.source;
  json["vocab"] = dump.vocab;
  for (const LogitSequence& sequence : dump.sequences) {
    json["sequences"].push_back({{"tokens", sequence.tokens}, {"positions", sequence.positions}});
  }
  std::ofstream text(prefix + ".json");
  text << json.dump() << "\n";
  text.close();
  std::ofstream values(prefix + ".f32", std::ios::binary);
  values.write(reinterpret_cast<const char*>(dump.rows.data()),
               static_cast<std::streamsize>(dump.rows.size() * sizeof(float)));
  values.close();
  if (!text || !values) return absl::InternalError(absl::StrCat(prefix, ": cannot write"));
  return absl::OkStatus();
}

std::vector<std::int32_t> RandomTokens(std::uint64_t seed, std::int32_t count, std::int32_t vocab) {
  std::vector<std::int32_t> tokens;
  for (std::int32_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<std::int32_t>(
        layout::Draw(seed, static_cast<std::uint32_t>(i), static_cast<std::uint64_t>(vocab))));
  }
  return tokens;
}

LogitErrors CompareLogits(const std::vector<float>& reference, const std::vector<float>& rows, std::int32_t vocab) {
  LogitErrors errors;
  const auto width = static_cast<std::size_t>(vocab);
  errors.num_rows = static_cast<std::int64_t>(reference.size() / width);
  std::vector<double> gaps;  // of rows whose argmax differs
  for (std::size_t at = 0; at < reference.size(); at += width) {
    const std::span<const float> expected(reference.data() + at, width);
    const std::span<const float> actual(rows.data() + at, width);
    double error = 0.0, norm = 0.0;
    for (std::size_t i = 0; i < width; ++i) {
      const double difference = double{actual[i]} - expected[i];
      error += difference * difference;
      norm += double{expected[i]} * expected[i];
      errors.absolute_max = std::fmax(errors.absolute_max, std::fabs(difference));
    }
    double relative = std::sqrt(error / norm);
    if (!std::isfinite(relative)) relative = std::numeric_limits<double>::infinity();
    if (relative > errors.relative_max) errors.worst_row = static_cast<std::int64_t>(at / width);
    errors.relative_max = std::max(errors.relative_max, relative);
    errors.relative.push_back(relative);
    const auto best = static_cast<std::size_t>(Argmax(expected)), chosen = static_cast<std::size_t>(Argmax(actual));
    if (best != chosen) gaps.push_back(double{expected[best]} - expected[chosen]);
  }
  for (const double relative : errors.relative) errors.relative_mean += relative / static_cast<double>(errors.num_rows);
  errors.argmax_differs = static_cast<std::int64_t>(gaps.size());
  errors.argmax_differs_beyond_margin =
      std::count_if(gaps.begin(), gaps.end(), [&](double gap) { return gap > 2.0 * errors.absolute_max; });
  return errors;
}

}  // namespace megakernel::test
