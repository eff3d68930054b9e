#include "engine/text/tokenizer.h"

#include "engine/text/utf8.h"

namespace megakernel {

std::string Tokenizer::Decode(const std::vector<TokenId>& tokens, bool skip_special) const {
  std::string text;
  Utf8Decoder decoder;
  for (const TokenId token : tokens) decoder.Push(TokenBytes(token, skip_special), text);
  decoder.Finish(text);
  if (strips_leading_space() && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

}  // namespace megakernel
