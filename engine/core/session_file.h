// Session images as files.
//
// Little-endian, one after the other:
//   char[8]  "MKSESSN" and a zero
//   u32      version, 1
//   u32 x 3  bytes of the model's identity, of the page format, of the tenant
//   u32 x 2  page_tokens, number of tokens
//   u64      page_bytes
//   u32 x 2  kv_length, zero
//   the three strings, the tokens as i32, the pages
//   char[32] digest of each of the parts before, in this order (engine/model/digest.h)
// A file whose size is not exactly what its head asks for is refused before anything is allocated for it. The digest
// finds damage, not forgery: files belong where only the server writes.
//
// These functions read and write: not for the engine thread.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/core/session_image.h"

namespace megakernel {

// Ends of names of files that are being written; what is left of a save that was killed.
inline constexpr char kPartialSuffix[] = ".partial";

// Writes beside `path` and renames: `path` is, at every moment, what it was before or all of the new file, and is on
// disk on return. ResourceExhausted (STORAGE_FULL) or Internal (STORAGE_FAILED), naming file and cause, when it cannot
// be written; nothing is left then. One writer of a path at a time.
absl::Status WriteSessionFile(const std::string& path, const SessionImage& image);

// NotFound (SESSION_NOT_FOUND), DataLoss (SESSION_CORRUPT) for a file that is no whole image,
// FailedPrecondition (SESSION_FOREIGN) for one of another model, page format or tenant.
absl::StatusOr<SessionImage> ReadSessionFile(const std::string& path, const ImageFormat& here);

}  // namespace megakernel
