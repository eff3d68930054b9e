// A fact about element types beyond model.h: whether their numbers are finite.
#pragma once

#include <cstdint>

#include "engine/model/model.h"

namespace megakernel {

// The first row that holds a value (plain types) or a block scale (quantised types) that is NaN or infinite; -1 when
// all are finite. Reads the whole tensor.
std::int64_t FirstRowNotFinite(const TensorView& tensor);

// Whether all `count` elements of a plain type at `data` are finite.
bool AreFinite(TensorType type, const std::byte* data, std::int64_t count);

}  // namespace megakernel
