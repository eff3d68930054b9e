// Facts about element types beyond model.h: which of them can be decoded, and whether their numbers are finite.
#pragma once

#include <cstdint>
#include <string>

#include "engine/model/model.h"

namespace megakernel {

// True when DequantizeRow can decode the type. LoadModel refuses tensors of the others.
bool IsDecoded(TensorType type);

// "F32, F16, ...": the decoded types, for messages.
std::string DecodedTypeNames();

// The first row that holds a value (plain types) or a block scale (quantised types) that is NaN or infinite; -1 when
// all are finite. Reads the whole tensor. REQUIRES: IsDecoded(tensor.type).
std::int64_t FirstRowNotFinite(const TensorView& tensor);

}  // namespace megakernel
