// A chat template, rendered over a conversation with tools and with a continued message.
#include "engine/text/jinja_template.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace megakernel;
  const auto compiled = CreateJinjaTemplate(test::AsText(data, size), {.bos_token = "<s>", .eos_token = "</s>"});
  if (!compiled.ok()) return 0;
  const std::vector<ChatMessage> messages = {
      {"system", "S \xc3\xa9"},
      {"user", " hi\n"},
      {"assistant", "<think>x</think>y",
       R"({"tool_calls":[{"function":{"name":"f","arguments":{"a":[1,2.5,null]}}}]})"},
      {"tool", "{}"},
      {"assistant", "go on"}};
  (void)(*compiled)->Render(messages, {.add_generation_prompt = true,
                                       .tools = R"([{"type":"function","function":{"name":"f"}}])",
                                       .arguments = R"({"enable_thinking":false,"n":3})"});
  (void)(*compiled)->Render(messages, {.continue_final_message = true});
  return 0;
}
