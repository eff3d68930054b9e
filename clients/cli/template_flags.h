// What the chat template of the model gets to see besides messages: tools, variables, how the prompt ends.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "clients/cli/flags.h"
#include "megakernel/v1/generation.pb.h"

namespace megakernel::cli {

// Declares --tools and --template-args. `chat` must outlive `flags`.
void AddTemplateFlags(FlagSet* flags, v1::ChatPrompt* chat);

// Adds the messages in `json`, a list as OpenAI's chat completions API has it: role, content, tool_calls, tool_call_id,
// name, reasoning_content; anything else becomes a further field for the template. InvalidArgument names the message.
absl::Status AddJsonMessages(const std::string& json, v1::ChatPrompt* chat);

// Sets the tools in `json`, a list of objects.
absl::Status SetTools(const std::string& json, v1::ChatPrompt* chat);

// Reads a whole file. InvalidArgument names it.
absl::Status ReadFile(const std::string& path, std::string* text);

}  // namespace megakernel::cli
