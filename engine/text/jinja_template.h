// Chat templates written in Jinja, as model files carry them.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/text/chat_template.h"

namespace megakernel {

// Special tokens, written out, that a template may name; undefined in the template when empty.
struct TemplateTokens {
  std::string bos_token;
  std::string eos_token;
  std::string unk_token = {};
  std::string pad_token = {};
};

// Compiles `source`. The dialect is that of transformers' apply_chat_template (trim_blocks, lstrip_blocks, loop
// controls); engine/text/jinja/README.md lists what is supported. Anything else is InvalidArgument and names the line,
// here and not when the first user comes. The template sees messages, tools, add_generation_prompt, the tokens above
// and the arguments of ChatOptions.
absl::StatusOr<std::unique_ptr<ChatTemplate>> CreateJinjaTemplate(std::string_view source, TemplateTokens tokens);

}  // namespace megakernel
