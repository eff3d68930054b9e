#include "server/small_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace megakernel {
namespace {

absl::Status Failed(const std::string& path, const std::string& why) {
  return absl::FailedPreconditionError(absl::StrCat(path, ": ", why));
}

std::int64_t Nanoseconds(const timespec& time) {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// Closes the file at the end of its scope.
class OpenFile {
 public:
  explicit OpenFile(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~OpenFile() {
    if (fd_ >= 0) close(fd_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, std::size_t max_bytes) {
  const OpenFile file(path);
  if (file.fd() < 0) return Failed(path, std::system_category().message(errno));
  struct stat status {};
  if (fstat(file.fd(), &status) != 0) return Failed(path, std::system_category().message(errno));
  if (!S_ISREG(status.st_mode)) return Failed(path, "is no plain file");
  std::string text(max_bytes + 1, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = read(file.fd(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Failed(path, std::system_category().message(errno));
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  if (size > max_bytes) return Failed(path, absl::StrCat("is larger than ", max_bytes, " bytes"));
  if (size == 0) return Failed(path, "is empty");
  text.resize(size);
  return text;
}

bool EverybodyMayRead(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && (status.st_mode & S_IROTH) != 0;
}

FileStamps::FileStamps(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    Stamp& stamp = stamps_.emplace_back();
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) continue;
    stamp = {.device = status.st_dev,
             .inode = status.st_ino,
             .size = status.st_size,
             .modified_ns = Nanoseconds(status.st_mtim),
             .changed_ns = Nanoseconds(status.st_ctim)};
  }
}

}  // namespace megakernel
