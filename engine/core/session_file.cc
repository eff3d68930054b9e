#include "engine/core/session_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/core/error.h"
#include "engine/model/digest.h"

namespace megakernel {
namespace {

constexpr char kMagic[8] = {'M', 'K', 'S', 'E', 'S', 'S', 'N', 0};
constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kMaxStringBytes = 4096;
constexpr std::size_t kDigestBytes = 32;
constexpr std::size_t kWriteBytes = std::size_t{8} << 20;  // of one call

struct Head {
  char magic[8];
  std::uint32_t version;
  std::uint32_t model_bytes;
  std::uint32_t format_bytes;
  std::uint32_t tenant_bytes;
  std::uint32_t page_tokens;
  std::uint32_t num_tokens;
  std::uint64_t page_bytes;
  std::uint32_t kv_length;
  std::uint32_t zero;

  std::uint64_t num_pages() const { return (std::uint64_t{kv_length} + page_tokens - 1) / page_tokens; }
};
static_assert(sizeof(Head) == 48 && std::is_trivially_copyable_v<Head>);

class File {
 public:
  File(const std::string& path, int flags) : descriptor_(open(path.c_str(), flags | O_CLOEXEC, 0600)) {}
  ~File() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool is_open() const { return descriptor_ >= 0; }
  int descriptor() const { return descriptor_; }

  bool Write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = write(descriptor_, bytes.data(), std::min(bytes.size(), kWriteBytes));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return false;
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return true;
  }
  bool Read(std::span<std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t got = read(descriptor_, bytes.data(), bytes.size());
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
      bytes = bytes.subspan(static_cast<std::size_t>(got));
    }
    return true;
  }

 private:
  const int descriptor_;
};

absl::Status Failed(const char* what, const std::string& path) {
  // Quotas and limits on the size of a file are full disks too.
  const bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
  const std::string message = absl::StrCat("cannot ", what, " ", path, ": ", std::strerror(errno));
  return full ? MakeError(absl::StatusCode::kResourceExhausted, ErrorReason::kStorageFull, message)
              : MakeError(absl::StatusCode::kInternal, ErrorReason::kStorageFailed, message);
}

template <typename... Parts>
absl::Status Corrupt(const std::string& path, const Parts&... parts) {
  return MakeError(absl::StatusCode::kDataLoss, ErrorReason::kSessionCorrupt, absl::StrCat(path, ": ", parts...));
}

std::array<std::span<const std::byte>, 6> Parts(const Head& head, const SessionImage& image) {
  const auto bytes = [](const auto& values) { return std::as_bytes(std::span(values)); };
  return {std::as_bytes(std::span(&head, 1)), bytes(image.format.model), bytes(image.format.page_format),
          bytes(image.format.tenant),         bytes(image.tokens),       bytes(image.pages)};
}

std::string DigestOf(const Head& head, const SessionImage& image) {
  Digest digest;
  for (const std::span<const std::byte> part : Parts(head, image)) digest.Add(part);
  return digest.Hex();
}

absl::Status WriteAll(const std::string& path, const SessionImage& image) {
  Head head = {};
  std::memcpy(head.magic, kMagic, sizeof kMagic);
  head.version = kVersion;
  head.model_bytes = static_cast<std::uint32_t>(image.format.model.size());
  head.format_bytes = static_cast<std::uint32_t>(image.format.page_format.size());
  head.tenant_bytes = static_cast<std::uint32_t>(image.format.tenant.size());
  head.page_tokens = static_cast<std::uint32_t>(image.format.page_tokens);
  head.num_tokens = static_cast<std::uint32_t>(image.tokens.size());
  head.page_bytes = static_cast<std::uint64_t>(image.format.page_bytes);
  head.kv_length = static_cast<std::uint32_t>(image.kv_length);
  File file(path, O_WRONLY | O_CREAT | O_TRUNC);
  if (!file.is_open()) return Failed("make", path);
  for (const std::span<const std::byte> part : Parts(head, image)) {
    if (!file.Write(part)) return Failed("write", path);
  }
  const std::string digest = DigestOf(head, image);
  if (!file.Write(std::as_bytes(std::span(digest)))) return Failed("write", path);
  return fsync(file.descriptor()) == 0 ? absl::OkStatus() : Failed("write", path);
}

// A renamed file is on disk only when its folder is.
absl::Status SyncFolder(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  File file(folder, O_RDONLY | O_DIRECTORY);
  return file.is_open() && fsync(file.descriptor()) == 0 ? absl::OkStatus() : Failed("write", folder);
}

absl::Status CheckHead(const std::string& path, const Head& head, std::uint64_t file_bytes) {
  if (std::memcmp(head.magic, kMagic, sizeof kMagic) != 0) return Corrupt(path, "is no saved session");
  if (head.version != kVersion) return Corrupt(path, "is of version ", head.version, ", known is ", kVersion);
  for (const std::uint32_t bytes : {head.model_bytes, head.format_bytes, head.tenant_bytes}) {
    if (bytes > kMaxStringBytes) return Corrupt(path, "has a name of ", bytes, " bytes, at most ", kMaxStringBytes);
  }
  // Bounds that keep the sum below 2^64.
  if (head.page_tokens == 0 || head.page_tokens > 1u << 20 || head.page_bytes > std::uint64_t{1} << 31 ||
      head.num_tokens > 1u << 30 || head.zero != 0) {
    return Corrupt(path, "has ", head.num_tokens, " tokens, pages of ", head.page_tokens, " tokens and ",
                   head.page_bytes, " bytes");
  }
  if (head.kv_length > 0 && head.kv_length >= head.num_tokens) {
    return Corrupt(path, "has keys for ", head.kv_length, " of ", head.num_tokens, " tokens");
  }
  const std::uint64_t expected = sizeof(Head) + head.model_bytes + head.format_bytes + head.tenant_bytes +
                                 4 * std::uint64_t{head.num_tokens} + head.num_pages() * head.page_bytes + kDigestBytes;
  if (file_bytes != expected) return Corrupt(path, "has ", file_bytes, " bytes, its head asks for ", expected);
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteSessionFile(const std::string& path, const SessionImage& image) {
  const std::string partial = path + kPartialSuffix;
  absl::Status status = WriteAll(partial, image);
  if (status.ok() && rename(partial.c_str(), path.c_str()) != 0) status = Failed("rename", partial);
  if (!status.ok()) {
    unlink(partial.c_str());
    return status;
  }
  return SyncFolder(path);
}

absl::StatusOr<SessionImage> ReadSessionFile(const std::string& path, const ImageFormat& here) {
  File file(path, O_RDONLY);
  if (!file.is_open()) {
    if (errno != ENOENT) return Failed("open", path);
    return MakeError(absl::StatusCode::kNotFound, ErrorReason::kSessionNotFound, absl::StrCat("there is no ", path));
  }
  struct stat info = {};
  if (fstat(file.descriptor(), &info) != 0) return Failed("read", path);
  Head head;
  if (!S_ISREG(info.st_mode) || !file.Read(std::as_writable_bytes(std::span(&head, 1)))) {
    return Corrupt(path, "has no head");
  }
  MK_RETURN_IF_ERROR(CheckHead(path, head, static_cast<std::uint64_t>(info.st_size)));

  SessionImage image;
  image.format.model.resize(head.model_bytes);
  image.format.page_format.resize(head.format_bytes);
  image.format.tenant.resize(head.tenant_bytes);
  image.format.page_tokens = static_cast<std::int32_t>(head.page_tokens);
  image.format.page_bytes = static_cast<std::int64_t>(head.page_bytes);
  image.kv_length = static_cast<std::int32_t>(head.kv_length);
  const auto read = [&](auto& values) { return file.Read(std::as_writable_bytes(std::span(values))); };
  if (!read(image.format.model) || !read(image.format.page_format) || !read(image.format.tenant)) {
    return Corrupt(path, "ends in its names");
  }
  MK_RETURN_IF_ERROR(CheckFormat(image.format, here));
  image.tokens.resize(head.num_tokens);
  image.pages.resize(head.num_pages() * head.page_bytes);
  std::string digest(kDigestBytes, ' ');
  if (!read(image.tokens) || !read(image.pages) || !read(digest)) return Corrupt(path, "ends early");
  if (digest != DigestOf(head, image)) return Corrupt(path, "is damaged: its digest is not that of its content");
  return image;
}

}  // namespace megakernel
