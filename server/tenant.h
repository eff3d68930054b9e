// Who calls. Every request goes through here; sessions and cached prefixes of one tenant are invisible to the others.
#pragma once

#include <string>

namespace megakernel {

// The tenant of a call. There is one so far: calls carry no credentials.
std::string ResolveTenant();

}  // namespace megakernel
