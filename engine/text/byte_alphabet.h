// The printable characters that byte-level vocabularies write bytes as.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace megakernel {

// The character (in UTF-8) that stands for `byte`: itself where it is printable, else one from U+0100 on.
// Source: bytes_to_unicode of GPT-2's encoder.py.
std::string AlphabetCharacter(std::uint8_t byte);

// Appends the bytes that `token` stands for. False, and nothing appended, when a character is not of the alphabet.
bool AppendAlphabetBytes(std::string_view token, std::string& bytes);

}  // namespace megakernel
