// A loaded model as the reference interpreter takes it.
#pragma once

#include "engine/cuda/model_view.h"

namespace megakernel::test {

using ReferenceModel = ModelViewOf;

}  // namespace megakernel::test
