#include "tests/support/parity_goldens.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tests/support/logit_dump.h"

namespace megakernel::test {
namespace {

constexpr std::int64_t kMaxRows = 1 << 20;
constexpr std::int64_t kMaxColumns = 4096;

// Copies `count` values from the front of `bytes` and moves on.
template <class T>
std::vector<T> Take(std::span<const char>& bytes, std::int64_t count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  const std::size_t size = values.size() * sizeof(T);
  std::copy_n(bytes.data(), size, reinterpret_cast<char*>(values.data()));
  bytes = bytes.subspan(size);
  return values;
}

absl::Status CheckSequences(const ParityGoldens& goldens) {
  std::int64_t rows = 0;
  for (const ParitySequence& sequence : goldens.sequences) {
    const auto count = static_cast<std::int64_t>(sequence.tokens.size());
    if (sequence.first < 0 || sequence.first >= count) return absl::InvalidArgumentError("\"first\" is not a token");
    for (const std::int32_t token : sequence.tokens) {
      if (token < 0 || token >= goldens.vocab) return absl::InvalidArgumentError("a token is outside the vocabulary");
    }
    rows += count - sequence.first;
  }
  if (rows > kMaxRows) return absl::InvalidArgumentError(absl::StrCat("more than ", kMaxRows, " rows"));
  return absl::OkStatus();
}

absl::Status ReadRows(const std::string& path, std::int64_t top, std::int64_t sampled, ParityGoldens& goldens) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot open"));
  const std::vector<char> content{std::istreambuf_iterator<char>(file), {}};
  std::int64_t rows = 0;
  for (const ParitySequence& sequence : goldens.sequences) {
    rows += static_cast<std::int64_t>(sequence.tokens.size()) - sequence.first;
  }
  const std::int64_t bytes = rows * 4 * (2 * top + 1 + sampled);
  if (static_cast<std::int64_t>(content.size()) != bytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": holds ", content.size(), " bytes instead of ", bytes));
  }
  const std::vector<std::int32_t> ids =
      RandomTokens(goldens.seed, static_cast<std::int32_t>(rows * sampled), goldens.vocab);
  std::span<const char> rest(content);
  auto next = ids.begin();
  for (ParitySequence& sequence : goldens.sequences) {
    for (std::size_t i = static_cast<std::size_t>(sequence.first); i < sequence.tokens.size(); ++i) {
      ParityRow row;
      row.top_ids = Take<std::int32_t>(rest, top);
      row.top_logits = Take<float>(rest, top);
      row.log_sum = Take<float>(rest, 1)[0];
      row.sampled_logits = Take<float>(rest, sampled);
      row.sampled_ids.assign(next, next + sampled);
      next += sampled;
      for (const std::int32_t id : row.top_ids) {
        if (id < 0 || id >= goldens.vocab) return absl::InvalidArgumentError(absl::StrCat(path, ": id ", id));
      }
      sequence.rows.push_back(std::move(row));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ParityGoldens> ReadParityGoldens(const std::string& prefix) {
  const std::string path = prefix + ".json";
  std::ifstream text(path);
  if (!text) return absl::NotFoundError(absl::StrCat(path, ": cannot open"));
  ParityGoldens goldens;
  std::int64_t top = 0, sampled = 0;
  try {
    const auto json = nlohmann::json::parse(text);
    goldens.source = json.at("source").get<std::string>();
    goldens.config = json.at("config").get<std::string>();
    goldens.seed = json.at("seed").get<std::uint64_t>();
    goldens.vocab = json.at("vocab").get<std::int32_t>();
    top = json.at("top").get<std::int64_t>();
    sampled = json.at("sampled").get<std::int64_t>();
    for (const auto& sequence : json.at("sequences")) {
      goldens.sequences.push_back(
          {sequence.at("tokens").get<std::vector<std::int32_t>>(), sequence.at("first").get<std::int32_t>(), {}});
    }
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.what()));
  }
  if (top < 2 || top > kMaxColumns || sampled < 0 || sampled > kMaxColumns) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": \"top\" or \"sampled\" is out of range"));
  }
  if (const absl::Status status = CheckSequences(goldens); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", std::string(status.message())));
  }
  if (const absl::Status status = ReadRows(prefix + ".rows", top, sampled, goldens); !status.ok()) return status;
  return goldens;
}

void ParityErrors::Add(const ParityRow& row, std::span<const float> logits) {
  for (std::size_t i = 0; i < row.top_ids.size(); ++i) AddDifference(logits[row.top_ids[i]] - row.top_logits[i]);
  for (std::size_t i = 0; i < row.sampled_ids.size(); ++i) {
    AddDifference(logits[row.sampled_ids[i]] - row.sampled_logits[i]);
  }
  AddArgmax(row, static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
}

void ParityErrors::AddDifference(double difference) {
  ++num_logits_;
  squares_ += difference * difference;
  const double size = std::isfinite(difference) ? std::abs(difference) : std::numeric_limits<double>::infinity();
  absolute_max_ = std::max(absolute_max_, size);
}

void ParityErrors::AddArgmax(const ParityRow& row, std::int32_t chosen) {
  ++num_rows_;
  if (chosen == row.top_ids[0]) return;
  const auto found = std::find(row.top_ids.begin(), row.top_ids.end(), chosen);
  gaps_.push_back(found == row.top_ids.end() ? std::numeric_limits<double>::infinity()
                                             : double{row.top_logits[0]} - row.top_logits[found - row.top_ids.begin()]);
}

double ParityErrors::root_mean_square() const {
  return num_logits_ == 0 ? 0.0 : std::sqrt(squares_ / static_cast<double>(num_logits_));
}

double ParityErrors::widest_gap() const {
  return gaps_.empty() ? 0.0 : *std::max_element(gaps_.begin(), gaps_.end());
}

std::int64_t ParityErrors::argmax_differs_beyond_margin() const {
  return std::count_if(gaps_.begin(), gaps_.end(), [&](double gap) { return gap > 2.0 * absolute_max_; });
}

}  // namespace megakernel::test
