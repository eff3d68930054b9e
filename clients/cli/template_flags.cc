#include "clients/cli/template_flags.h"

#include <cstddef>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "google/protobuf/util/json_util.h"

namespace megakernel::cli {
namespace {

using Json = nlohmann::ordered_json;  // templates write members in the order given

absl::Status ReadList(const std::string& text, Json* list) {
  *list = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!list->is_array()) return absl::InvalidArgumentError("expected a JSON list");
  for (const Json& entry : *list) {
    if (!entry.is_object()) return absl::InvalidArgumentError("expected a JSON list of objects");
  }
  return absl::OkStatus();
}

// {"id": ..., "type": "function", "function": {"name": ..., "arguments": object or its text}} and nothing else.
bool AddCall(const Json& entry, v1::ChatMessage* message) {
  if (!entry.is_object() || entry.value("type", Json("function")) != "function") return false;
  const auto function = entry.find("function");
  if (function == entry.end() || !function->is_object()) return false;
  const Json name = function->value("name", Json());
  const Json arguments = function->value("arguments", Json::object());
  const Json id = entry.value("id", Json(""));
  if (!name.is_string() || !id.is_string() || !(arguments.is_object() || arguments.is_string())) return false;
  v1::ToolCall* call = message->add_tool_calls();
  call->set_id(id.get<std::string>());
  call->set_name(name.get<std::string>());
  call->set_arguments(arguments.is_string() ? arguments.get<std::string>() : arguments.dump());
  return true;
}

bool AddCalls(const Json& list, v1::ChatMessage* message) {
  if (!list.is_array()) return false;
  for (const Json& entry : list) {
    if (!AddCall(entry, message)) return false;
  }
  return true;
}

absl::Status AddMessage(const Json& entry, v1::ChatMessage* message) {
  Json further = Json::object();
  for (const auto& [name, value] : entry.items()) {
    if (name == "tool_calls") {
      if (!AddCalls(value, message)) {
        return absl::InvalidArgumentError("tool_calls are not function calls with a name and arguments");
      }
    } else if (!value.is_string()) {
      further[name] = value;
    } else if (const auto text = value.get<std::string>(); name == "role") {
      message->set_role(text);
    } else if (name == "content") {
      message->set_content(text);
    } else if (name == "tool_call_id") {
      message->set_tool_call_id(text);
    } else if (name == "name") {
      message->set_name(text);
    } else if (name == "reasoning_content") {
      message->set_reasoning_content(text);
    } else {
      further[name] = value;
    }
  }
  if (!further.empty()) message->set_fields(further.dump());
  return absl::OkStatus();
}

absl::Status SetArguments(const std::string& text, v1::ChatPrompt* chat) {
  const auto status = google::protobuf::util::JsonStringToMessage(text, chat->mutable_template_arguments());
  if (!status.ok()) return absl::InvalidArgumentError("expected a JSON object, such as {\"enable_thinking\": false}");
  return absl::OkStatus();
}

}  // namespace

void AddTemplateFlags(FlagSet* flags, v1::ChatPrompt* chat) {
  flags->Value("tools", "FILE", "Functions that the model may call: a JSON list of definitions with JSON schemas.",
               [chat](const std::string& path) {
                 std::string text;
                 const absl::Status status = ReadFile(path, &text);
                 return status.ok() ? SetTools(text, chat) : status;
               });
  flags->Value("template-args", "JSON",
               "Variables for the model's chat template, such as {\"enable_thinking\": false} for Qwen3.",
               [chat](const std::string& text) { return SetArguments(text, chat); });
}

absl::Status AddJsonMessages(const std::string& json, v1::ChatPrompt* chat) {
  Json list;
  const absl::Status status = ReadList(json, &list);
  if (!status.ok()) return status;
  for (const Json& entry : list) {
    const absl::Status added = AddMessage(entry, chat->add_messages());
    if (!added.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("message ", chat->messages_size() - 1, ": ", added.message()));
    }
  }
  return absl::OkStatus();
}

absl::Status SetTools(const std::string& json, v1::ChatPrompt* chat) {
  Json list;
  const absl::Status status = ReadList(json, &list);
  if (!status.ok()) return status;
  chat->clear_tools();
  for (const Json& entry : list) chat->add_tools(entry.dump());
  return absl::OkStatus();
}

absl::Status ReadFile(const std::string& path, std::string* text) {
  std::ifstream file(path, std::ios::binary);
  char part[1 << 16];
  text->clear();
  while (file.read(part, sizeof(part)) || file.gcount() > 0)
    text->append(part, static_cast<std::size_t>(file.gcount()));
  if (!file.is_open() || file.bad()) return absl::InvalidArgumentError(absl::StrCat("cannot read '", path, "'"));
  return absl::OkStatus();
}

}  // namespace megakernel::cli
