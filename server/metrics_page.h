// A server's metrics in Prometheus' text format. Everything is counted where it happens, in atomics; this reads them.
#pragma once

#include <string>

#include "server/server.h"

namespace megakernel {

inline constexpr char kMetricsContentType[] = "text/plain; version=0.0.4; charset=utf-8";

// Names, units and meanings stand in the page itself (# HELP). Every series is there from the start, with 0, so that
// rates can be taken of the first event. Any thread.
std::string MetricsPage(const Server& server);

}  // namespace megakernel
