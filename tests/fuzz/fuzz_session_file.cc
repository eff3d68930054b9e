// A saved session: read from a file in memory. An odd first byte makes its digest right, so that what lies behind the
// digest is reached too.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/core/session_file.h"
#include "engine/model/digest.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/input_reader.h"

namespace megakernel {
namespace {

constexpr std::size_t kHeadBytes = 48;

ImageFormat Here() {
  return {.model = "m", .page_format = "f 4", .tenant = "default", .page_tokens = 4, .page_bytes = 32};
}

std::uint32_t NumberAt(std::string_view file, std::size_t at) {
  std::uint32_t number = 0;
  std::memcpy(&number, file.data() + at, sizeof number);
  return number;
}

// The digest that a file with this content would need, by the lengths that its head names.
std::string DigestOf(std::string_view file) {
  Digest digest;
  const auto add = [&](std::size_t bytes) {
    const std::string_view part = file.substr(0, std::min(bytes, file.size()));
    digest.Add(std::as_bytes(std::span(part)));
    file.remove_prefix(part.size());
  };
  const std::size_t lengths[] = {NumberAt(file, 12), NumberAt(file, 16), NumberAt(file, 20),
                                 std::size_t{4} * NumberAt(file, 28)};
  add(kHeadBytes);
  for (const std::size_t length : lengths) add(length);
  add(file.size());
  return digest.Hex();
}

// A file without a name that is overwritten for each input.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(memfd_create("session", MFD_CLOEXEC)) { MK_CHECK(descriptor_ >= 0); }
  void Set(std::string_view content) {
    MK_CHECK(ftruncate(descriptor_, 0) == 0);
    MK_CHECK(pwrite(descriptor_, content.data(), content.size(), 0) == static_cast<ssize_t>(content.size()));
  }
  std::string path() const { return absl::StrCat("/proc/self/fd/", descriptor_); }

 private:
  const int descriptor_;
};

}  // namespace
}  // namespace megakernel

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace megakernel;
  static MemoryFile file;
  test::InputReader input(data, size);
  const bool mend = (input.Byte() & 1) != 0;
  std::string content(input.Rest());
  if (mend && content.size() >= kHeadBytes) content += DigestOf(content);
  file.Set(content);
  const auto image = ReadSessionFile(file.path(), Here());
  if (!image.ok()) {
    MK_CHECK(!image.status().message().empty());
    return 0;
  }
  MK_CHECK(image->format == Here());
  MK_CHECK(image->kv_length == 0 || image->kv_length < static_cast<std::int32_t>(image->tokens.size()));
  MK_CHECK(image->pages.size() == static_cast<std::size_t>(image->num_pages()) * 32);
  return 0;
}
