#include "engine/core/session_image.h"

#include "absl/strings/str_cat.h"
#include "engine/core/error.h"

namespace megakernel {

ImageFormat ImageFormatFor(const Model& model, const ExecutorInfo& info, const std::string& tenant) {
  return {.model = model.identity(),
          .page_format = info.page_format,
          .tenant = tenant,
          .page_tokens = info.page_tokens,
          .page_bytes = info.page_bytes};
}

absl::Status CheckFormat(const ImageFormat& image, const ImageFormat& here) {
  const auto foreign = [](const char* what, const auto& a, const auto& b) {
    return MakeError(absl::StatusCode::kFailedPrecondition, ErrorReason::kSessionForeign,
                     absl::StrCat("the saved session is of ", what, " '", a, "', not '", b, "'"));
  };
  if (image.tenant != here.tenant) return foreign("tenant", image.tenant, here.tenant);
  if (image.model != here.model) return foreign("model", image.model, here.model);
  if (image.page_format != here.page_format) return foreign("page format", image.page_format, here.page_format);
  if (image.page_tokens != here.page_tokens) return foreign("tokens a page", image.page_tokens, here.page_tokens);
  if (image.page_bytes != here.page_bytes) return foreign("bytes a page", image.page_bytes, here.page_bytes);
  return absl::OkStatus();
}

}  // namespace megakernel
