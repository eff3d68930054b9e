// Escapes in string literals.
#pragma once

#include <string>
#include <string_view>

namespace megakernel::jinja {

// Appends `body` with Python's escapes resolved: \n \t \r \b \f \v \a \\ \' \", \ooo, \xhh, \uhhhh, \Uhhhhhhhh and a
// \ at the end of a line; \ before anything else stays. False when the digits are missing or name no character.
bool ResolveEscapes(std::string_view body, std::string& value);

}  // namespace megakernel::jinja
