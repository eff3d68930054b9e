// How calls have ended, for operators: by method and code, and errors by reason.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

#include "engine/core/error.h"
#include "engine/core/metrics.h"
#include "server/request_record.h"

namespace megakernel {

// Thread-safe, lock-free.
class CallCounts {
 public:
  static constexpr std::array<std::string_view, 2> kMethods = {"Generate", "Decode"};
  static constexpr int kCodes = 17;  // of absl::StatusCode and gRPC

  void Add(const RequestRecord& record) {
    const std::size_t method = record.method == kMethods[0] ? 0 : 1;
    const int code = static_cast<int>(record.status.code());
    if (code >= 0 && code < kCodes) ended_[method][code].fetch_add(1, std::memory_order_relaxed);
    if (!record.status.ok()) errors_.Add(ReasonOf(record.status));
  }
  std::uint64_t ended(std::size_t method, int code) const {
    return ended_[method][code].load(std::memory_order_relaxed);
  }
  std::uint64_t errors(ErrorReason reason) const { return errors_[reason]; }

 private:
  std::array<std::array<std::atomic<std::uint64_t>, kCodes>, kMethods.size()> ended_ = {};
  EnumCounts<ErrorReason, kNumErrorReasons> errors_;
};

}  // namespace megakernel
