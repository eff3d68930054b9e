// Early return on a failed absl::Status or absl::StatusOr.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define MK_RETURN_IF_ERROR(expression)                            \
  do {                                                            \
    if (absl::Status mk_status = (expression); !mk_status.ok()) { \
      return mk_status;                                           \
    }                                                             \
  } while (false)

// MK_ASSIGN_OR_RETURN(auto value, Function());  `expression` is a StatusOr.
#define MK_ASSIGN_OR_RETURN(target, expression) \
  MK_ASSIGN_OR_RETURN_NAMED(MK_CONCATENATE(mk_status_or_, __LINE__), target, expression)
#define MK_ASSIGN_OR_RETURN_NAMED(name, target, expression) \
  auto name = (expression);                                 \
  if (!name.ok()) return std::move(name).status();          \
  target = *std::move(name)
#define MK_CONCATENATE(a, b) MK_CONCATENATE_AGAIN(a, b)
#define MK_CONCATENATE_AGAIN(a, b) a##b
