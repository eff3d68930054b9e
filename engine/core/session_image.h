// A session outside the engine: its tokens and the bytes of their keys and values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "engine/executor/executor.h"
#include "engine/model/model.h"

namespace megakernel {

// What the bytes of an image mean. An image can be imported where all of it is the same.
struct ImageFormat {
  std::string model;        // Model::identity()
  std::string page_format;  // ExecutorInfo::page_format
  std::string tenant;
  std::int32_t page_tokens = 0;
  std::int64_t page_bytes = 0;

  friend bool operator==(const ImageFormat&, const ImageFormat&) = default;
};

ImageFormat ImageFormatFor(const Model& model, const ExecutorInfo& info, const std::string& tenant);

struct SessionImage {
  ImageFormat format;
  std::vector<TokenId> tokens;
  std::int32_t kv_length = 0;  // leading tokens whose keys and values are in `pages`; < tokens.size() unless both are 0
  std::vector<std::byte> pages;  // [PagesFor(kv_length, page_tokens), page_bytes]

  std::int32_t num_pages() const { return layout::PagesFor(kv_length, format.page_tokens); }
};

// Called once, on the engine thread: must not block.
using SessionImageCallback = absl::AnyInvocable<void(absl::StatusOr<SessionImage>)>;

// OK, or SESSION_FOREIGN with what differs: both values, the file's first.
absl::Status CheckFormat(const ImageFormat& image, const ImageFormat& here);

}  // namespace megakernel
