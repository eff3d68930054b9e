// The rows of one step, as the forward pass sees them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/executor/executor.h"

namespace megakernel::cpu {

// Consecutive positions of one sequence: rows [first_row, first_row + num_rows).
struct BatchSegment {
  std::int32_t first_row = 0;
  std::int32_t num_rows = 0;
  std::int32_t first_position = 0;
  const PageId* pages = nullptr;  // page table of the sequence; covers the last row's position
};

struct Batch {
  std::vector<TokenId> tokens;             // [rows]
  std::vector<std::int32_t> positions;     // [rows]
  std::vector<const PageId*> page_tables;  // [rows]
  std::vector<BatchSegment> segments;

  std::int32_t num_rows() const { return static_cast<std::int32_t>(tokens.size()); }
  bool one_row_each() const {
    return std::all_of(segments.begin(), segments.end(), [](const BatchSegment& s) { return s.num_rows == 1; });
  }

  void Clear() {
    tokens.clear();
    positions.clear();
    page_tables.clear();
    segments.clear();
  }
  void Add(const TokenId* segment_tokens, const BatchSegment& segment) {
    segments.push_back(segment);
    for (std::int32_t i = 0; i < segment.num_rows; ++i) {
      tokens.push_back(segment_tokens[i]);
      positions.push_back(segment.first_position + i);
      page_tables.push_back(segment.pages);
    }
  }
};

}  // namespace megakernel::cpu
