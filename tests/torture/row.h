// A row of the table: what is done to the server, the figure that comes of it, and the bound it must keep.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tests/torture/faults.h"

namespace megakernel::torture {

struct Setting {
  bool brief = false;  // the short form: the same in fewer rounds
  Fault fault = Fault::kNone;
};

struct Outcome {
  std::string figure;     // what was measured
  std::string threshold;  // what it must be
  bool passed = false;
};

struct Row {
  std::string_view name;
  Outcome (*run)(const Setting& setting);
  std::vector<Fault> faults;  // each makes the row fail
  bool long_only = false;     // not in the short form unless it is asked for by name
};

// Clients that go, do not read, fall silent or have no time (rows_clients.cc).
Outcome Cancellations(const Setting& setting);
Outcome SlowReaders(const Setting& setting);
Outcome HalfOpen(const Setting& setting);
Outcome Deadlines(const Setting& setting);
// Too little memory, a device that stands still, a full disk (rows_engine.cc).
Outcome KvExhaustion(const Setting& setting);
Outcome FrozenExecutor(const Setting& setting);
Outcome SameTokens(const Setting& setting);
Outcome TwoTenants(const Setting& setting);
Outcome FullDisk(const Setting& setting);
// Many connections, limits of messages, clocks, time (rows_server.cc).
Outcome Connections(const Setting& setting);
Outcome Sizes(const Setting& setting);
Outcome ClockJumps(const Setting& setting);
Outcome Soak(const Setting& setting);

}  // namespace megakernel::torture
