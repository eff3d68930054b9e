// Files that an operator gives: read whole, with errors that say what is wrong with which file, and looked at for
// changes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace megakernel {

// FailedPrecondition "PATH: why" when it cannot be read, is no plain file, or is empty or larger than `max_bytes`.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, std::size_t max_bytes);

// Whether everybody on this machine may read the file. False when there is none.
bool EverybodyMayRead(const std::string& path);

// What the system says of some files: differs when one was written or replaced. Links are followed.
class FileStamps {
 public:
  explicit FileStamps(const std::vector<std::string>& paths);
  friend bool operator==(const FileStamps&, const FileStamps&) = default;

 private:
  struct Stamp {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::int64_t size = -1;  // -1: there is none
    std::int64_t modified_ns = 0;
    std::int64_t changed_ns = 0;
    friend bool operator==(const Stamp&, const Stamp&) = default;
  };
  std::vector<Stamp> stamps_;
};

}  // namespace megakernel
