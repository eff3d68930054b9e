// Upper and lower case.
#pragma once

#include <string>

namespace megakernel::jinja {

enum class Case { kUpper, kLower, kCapitalize, kTitle };

// Changes `text` in place. False, and nothing changed, when it holds a character beyond ASCII: their case needs tables.
bool ChangeCase(Case wanted, std::string& text);

}  // namespace megakernel::jinja
