// Bounds on templates: they come from files, so they may be hostile.
#pragma once

#include <cstddef>
#include <cstdint>

namespace megakernel::jinja {

inline constexpr std::size_t kMaxSourceBytes = 1 << 20;  // published templates have up to 30 KB
inline constexpr int kMaxSyntaxDepth = 200;              // nested expressions and statements
inline constexpr int kMaxMacroDepth = 16;                // macros that call macros
inline constexpr int kMaxValueDepth = 100;               // lists in lists
inline constexpr std::int64_t kMaxValueNodes = 1 << 20;  // elements of one list or dictionary, nested ones included
inline constexpr std::size_t kMaxEntries = 1000;         // of one dictionary or namespace: they are searched in order
inline constexpr std::size_t kMaxOutputBytes = 16 << 20;
inline constexpr std::int64_t kMaxRange = 1'000'000;
// Of one rendering: expressions and statements evaluated, plus one for every 16 bytes
// of text made or compared and for every element walked over.
inline constexpr std::int64_t kMaxWork = 10'000'000;

}  // namespace megakernel::jinja
