#include "engine/text/tokenizer.h"

#include "engine/text/utf8.h"

namespace megakernel {

std::string Tokenizer::Decode(const std::vector<TokenId>& tokens, bool skip_special) const {
  std::string text;
  Utf8Decoder decoder;
  for (const TokenId token : tokens) decoder.Push(TokenBytes(token, skip_special), text);
  decoder.Finish(text);
  return text;
}

}  // namespace megakernel
