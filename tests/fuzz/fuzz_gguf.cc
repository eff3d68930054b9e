// A GGUF file: container, metadata, tokenizer, tensors, dequantised rows.
#include <vector>

#include "engine/model/gguf_config.h"
#include "engine/model/gguf_file.h"
#include "engine/model/gguf_parts.h"
#include "engine/model/gguf_tokenizer.h"
#include "engine/model/gguf_weights.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace megakernel;
  const auto file = GgufFile::Parse(test::AsBytes(data, size), "m-00001-of-00002.gguf");
  if (!file.ok()) return 0;
  (void)OtherParts(*file);
  for (const TensorView& tensor : file->tensors()) {
    std::vector<float> row(static_cast<std::size_t>(tensor.cols));
    DequantizeRow(tensor, tensor.rows - 1, row.data());
  }
  const auto tokenizer = ReadGgufTokenizer(*file);
  if (tokenizer.ok()) (*tokenizer)->Encode(test::AsText(data, size < 200 ? size : 200), true);
  const auto config = ReadGgufConfig(*file);
  if (!config.ok()) return 0;
  OwnedTensors owned;
  (void)BindGgufWeights(*file, *config, owned);
  return 0;
}
