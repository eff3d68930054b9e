// A .safetensors file: header, tensors, the scan for numbers that are not finite.
#include "engine/model/safetensors_file.h"
#include "engine/model/tensor_type.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto tensors = megakernel::ParseSafetensors(megakernel::test::AsBytes(data, size), "f");
  if (!tensors.ok()) return 0;
  for (const megakernel::StoredTensor& tensor : *tensors) {
    const auto cols = static_cast<std::int64_t>(tensor.bytes.size()) / megakernel::BlockBytes(tensor.type);
    megakernel::FirstRowNotFinite({tensor.name, tensor.type, 1, cols, tensor.bytes.data()});
  }
  return 0;
}
