// The model of the fake device: no weights, bytes as tokens, a conversation format.
//
// Text goes in as one token per byte; the tokens that a fake executor makes up are short words, so that its output
// reads as text. Ids: 0 <|endoftext|>, 1 <|im_start|>, 2 <|im_end|>, [3, 259) the bytes, then the words.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/executor/executor.h"
#include "engine/model/model.h"

namespace megakernel {

inline constexpr TokenId kByteModelEnd = 0;
inline constexpr TokenId kByteModelFirstByte = 3;
inline constexpr TokenId kByteModelFirstWord = 259;
inline constexpr std::int32_t kByteModelVocab = 512;

std::unique_ptr<Model> NewByteModel(std::int32_t max_context);

}  // namespace megakernel
