// tokenizer.json, and what is left of it after the last brace as text to encode and decode again.
#include "engine/model/hf_tokenizer.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace megakernel;
  constexpr std::int32_t kVocab = 512;
  const std::string_view whole = test::AsText(data, size);
  const std::size_t end = whole.rfind('}');
  const std::string_view json = whole.substr(0, end == std::string_view::npos ? whole.size() : end + 1);
  const auto read = ParseHfTokenizer(json, "tokenizer.json", kVocab);
  if (!read.ok()) return 0;
  for (const std::string_view text : {whole.substr(json.size()), std::string_view("a e\xcc\x81 <s> 12\n\xff  b")}) {
    for (const bool special : {false, true}) {
      (void)read->tokenizer->Decode(read->tokenizer->Encode(text, special), special);
    }
  }
  return 0;
}
