// The JSON readers: config.json, generation_config.json, the index of shards, and JSON of requests.
#include "engine/model/hf_config.h"
#include "engine/model/hf_shards.h"
#include "engine/text/jinja/json_value.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace megakernel;
  const std::string_view text = test::AsText(data, size);
  auto config = ParseHfConfig(text, "config.json");
  ModelConfig other;
  other.vocab = 100;
  (void)ApplyGenerationConfig(text, "generation_config.json", config.ok() ? *config : other);
  (void)ParseShardIndex(text, "index.json");
  const auto value = jinja::ParseJson(text);
  std::string again;
  if (value.ok()) (void)jinja::AppendJson(*value, 2, again);
  return 0;
}
