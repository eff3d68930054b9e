// The chat template of a Hugging Face model directory.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/text/chat_template.h"

namespace megakernel {

// chat_template.jinja, else chat_template of tokenizer_config.json (a text, or a list of named ones, of which "default"
// counts); null when there is neither. The template may name the special tokens of tokenizer_config.json. NotFound
// never; InvalidArgument naming the file and the key, or the line of the template that is not supported. Source:
// transformers 5, PreTrainedTokenizerBase (special_tokens_map, chat_template).
absl::StatusOr<std::unique_ptr<ChatTemplate>> LoadHfChatTemplate(const std::string& directory);

}  // namespace megakernel
