// Whether a command keeps the contract of executor.h, as far as its sender can know.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "engine/executor/executor.h"

namespace megakernel {

// The engine's view of the lanes: which are taken until their kFinished is drained. Owned by the engine's thread.
class CommandCheck {
 public:
  explicit CommandCheck(const ExecutorInfo& info)
      : info_(info), lanes_(static_cast<std::size_t>(info.max_lanes), false) {}

  // InvalidArgument naming the field, its value and the limit; Unimplemented for page transfers where none are offered.
  // Notes the lane of an Admit as taken.
  absl::Status Check(const Command& command);

  // Frees the lanes of kFinished events.
  void Note(const Event& event) {
    if (event.type == EventType::kFinished) lanes_[event.lane] = false;
  }

 private:
  absl::Status CheckTransfer(const std::vector<PageId>& pages) const;
  absl::Status CheckAdmit(const Admit& command);
  absl::Status CheckTokens(const char* what, const std::vector<TokenId>& tokens) const;
  absl::Status CheckPages(const std::vector<PageId>& pages) const;
  absl::Status CheckLane(std::int32_t lane) const;
  absl::Status CheckPage(PageId page) const;

  const ExecutorInfo& info_;
  std::vector<bool> lanes_;
};

}  // namespace megakernel
