// A file mapped into memory for reading.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace megakernel {

// Owns the mapping. Movable; views of bytes() end with it. Immutable, so safe to read from many threads.
// A file that another process shortens while it is mapped ends this process (SIGBUS): replace model files by rename.
class MappedFile {
 public:
  // NotFound when there is no such file; InvalidArgument when it is not a regular file, is empty or cannot be read.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  // Gives back the memory of the pages that lie wholly in `bytes`, as far as they are of this file; they are read again
  // when they are touched. A hint: never fails.
  void Release(std::span<const std::byte> bytes) const;

 private:
  MappedFile(std::string path, const std::byte* data, std::size_t size)
      : path_(std::move(path)), data_(data), size_(size) {}

  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace megakernel
