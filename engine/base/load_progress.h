// How far a load is.
#pragma once

#include <cstdint>
#include <functional>

namespace megakernel {

// Called with bytes of a stage that are done, and all of them: 0 < done <= total, done never falls, the last call of a
// stage has done == total. Every call comes on the thread that loads, often (about once a megabyte) and between pieces
// of work, so it must be quick. Empty: nobody wants to know.
using LoadProgress = std::function<void(const char* stage, std::int64_t done, std::int64_t total)>;

}  // namespace megakernel
