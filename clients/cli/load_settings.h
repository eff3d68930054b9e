// What `megakernel load` was told: how calls arrive, what each asks for, what clients do wrong, when a call was good.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "clients/cli/flags.h"

namespace megakernel::cli {

// Bounds on the times of one call, in milliseconds; unset: anything goes.
struct LoadObjective {
  std::optional<double> ttft_ms;
  std::optional<double> itl_ms;  // holds when at most 1 % of the call's gaps between tokens are longer
  std::optional<double> tpot_ms;
  std::optional<double> e2e_ms;

  bool empty() const { return !ttft_ms && !itl_ms && !tpot_ms && !e2e_ms; }
};

// Plain data, of one run of the program.
struct LoadSettings {
  // How calls arrive: either closed loops (so many callers, each waits for its answer), or an open one (a Poisson
  // process of so many calls a second). One point of the sweep for each.
  std::vector<std::int32_t> concurrency = {1};
  std::vector<double> rates;  // not empty: open
  std::int32_t calls = 100;   // of each point
  double seconds = 0;         // more than 0: as many calls as begin in this time instead
  std::int32_t warm_up = 0;   // calls before each point that do not count
  std::int32_t connections = 1;
  std::uint64_t seed = 1;

  // What each asks for.
  std::int32_t prompt_tokens = 32;
  std::int32_t shared_prefix = 0;  // of these, the same in every prompt
  std::string prompt;              // text instead, the same in every call
  std::int32_t output_tokens = 64;
  std::int32_t turns = 0;  // more than 0: each session takes this many calls, one after the other

  // What clients do wrong.
  std::int32_t cancel_at = 0;  // tokens after which a call is cancelled; 0: never
  double cancel_share = 1;     // of calls
  double read_delay_ms = 0;    // of slow readers, before each message
  double slow_share = 1;       // of calls

  LoadObjective objective;

  bool open() const { return !rates.empty(); }
  std::size_t points() const { return open() ? rates.size() : concurrency.size(); }
};

// Declares the flags. `settings` must outlive `flags`.
void AddLoadFlags(FlagSet* flags, LoadSettings* settings);

// What does not fit together; the message names the flags.
absl::Status CheckLoad(const LoadSettings& settings, bool concurrency_given);

// "ttft=80ms,itl=5ms"; keys ttft, itl, tpot, e2e; units us, ms, s.
absl::Status ParseObjective(const std::string& text, LoadObjective* objective);

}  // namespace megakernel::cli
