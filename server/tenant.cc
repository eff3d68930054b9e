#include "server/tenant.h"

#include "engine/core/request.h"

namespace megakernel {

std::string ResolveTenant() {
  return kDefaultTenant;
}

}  // namespace megakernel
