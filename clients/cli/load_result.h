// What one run of a load was: counts and times, and how they are printed.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "clients/cli/load_settings.h"

namespace megakernel::cli {

// Every value that was measured, in milliseconds.
class LoadSamples {
 public:
  void Add(double milliseconds) { values_.push_back(static_cast<float>(milliseconds)); }
  void Add(const std::vector<float>& values) { values_.insert(values_.end(), values.begin(), values.end()); }
  std::size_t count() const { return values_.size(); }
  double mean() const;
  // The smallest value that the share `q` of all does not exceed; 0 when there is none. Sorts: REQUIRES no Add later.
  double Quantile(double q);

 private:
  std::vector<float> values_;
  bool sorted_ = false;
};

// Plain data. Times are of calls that ended well and did not read slowly.
struct LoadResult {
  double concurrency = 0;  // of a closed loop
  double rate = 0;         // of an open one: calls a second that were asked for
  double seconds = 0;      // from the first call to the end of the last

  std::int64_t sent = 0;
  std::int64_t ok = 0;                         // with all the tokens that were asked for
  std::int64_t cancelled = 0;                  // by --cancel-at
  std::int64_t slow = 0;                       // of ok: read slowly
  std::int64_t cut = 0;                        // slow readers that the server ended for it
  std::int64_t good = 0;                       // of ok: within the objective
  std::map<std::string, std::int64_t> errors;  // the rest, by code and reason

  std::int64_t tokens = 0;    // of all calls
  std::int64_t messages = 0;  // that carried them

  LoadSamples ttft;         // when due -> first token
  LoadSamples itl;          // between two tokens; 0 for those that came in one message
  LoadSamples message_gap;  // between two messages with tokens
  LoadSamples tpot;         // of a call: (last token - first) / (tokens - 1)
  LoadSamples e2e;          // when due -> last token
  LoadSamples late;         // open loop: when due -> sent

  std::int64_t failed() const { return sent - ok - cancelled - cut; }
};

// The table of all runs, for people.
std::string LoadTable(std::vector<LoadResult>& results, const LoadSettings& settings);
// One line.
std::string LoadJson(LoadResult& result, const LoadSettings& settings);

}  // namespace megakernel::cli
