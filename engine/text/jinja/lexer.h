// Template source as tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace megakernel::jinja {

enum class TokenType : std::uint8_t {
  kText,        // output as it is; white-space control is done
  kOpenOutput,  // {{
  kCloseOutput,
  kOpenBlock,  // {%
  kCloseBlock,
  kName,
  kString,   // value: escapes resolved
  kInteger,  // value: decimal digits
  kFloat,
  kOperator,  // value: "+", "==", "(", ...
  kEnd,
};

struct Token {
  TokenType type = TokenType::kEnd;
  std::string value;
  int line = 1;
};

// The tokens of `source`, ended by kEnd. As Jinja 3 with trim_blocks and lstrip_blocks (transformers' settings): a line
// end after a block or comment is dropped, and so are the blanks before one that begins its line; {%- -%} and {%+ +%}
// override; one line end at the end of the source is dropped. Errors: "line N: ...".
absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source);

// InvalidArgument "line N: problem".
absl::Status LineError(int line, std::string_view problem);

}  // namespace megakernel::jinja
