#include "server/chat_conversion.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "engine/base/status_macros.h"
#include "engine/core/error.h"

namespace megakernel {
namespace {

using Json = nlohmann::ordered_json;  // templates write members in the order given

// Variables that a conversation sets by fields of its own.
constexpr std::array<std::string_view, 4> kOwnVariables = {"messages", "tools", "add_generation_prompt",
                                                           "continue_final_message"};

bool AddsGenerationPrompt(const v1::ChatPrompt& chat) {
  return chat.has_add_generation_prompt() ? chat.add_generation_prompt() : !chat.continue_final_message();
}

absl::Status CheckCount(int count, int limit, const char* what, const std::string& path) {
  if (count <= limit) return absl::OkStatus();
  return FieldError(path, absl::StrCat(count, " ", what, "; at most ", limit));
}

// Sums up the texts of a conversation; keeps the first error.
class TextSizes {
 public:
  void Add(const std::string& text, const std::string& path, absl::string_view field) {
    total_ += text.size();
    if (!status_.ok() || text.size() <= kMaxChatTextBytes) return;
    status_ = FieldError(absl::StrCat(path, field), absl::StrCat(text.size(), " bytes; at most ", kMaxChatTextBytes));
  }
  void AddTotal(std::size_t bytes) { total_ += bytes; }
  const absl::Status& status() const { return status_; }
  std::size_t total() const { return total_; }

 private:
  absl::Status status_;
  std::size_t total_ = 0;
};

absl::Status CheckMessage(const v1::ChatMessage& message, const std::string& path, TextSizes& sizes) {
  if (message.role().empty()) return FieldError(absl::StrCat(path, ".role"), "the role is missing");
  MK_RETURN_IF_ERROR(CheckCount(message.tool_calls_size(), kMaxToolCalls, "calls", absl::StrCat(path, ".tool_calls")));
  sizes.Add(message.role(), path, ".role");
  sizes.Add(message.content(), path, ".content");
  sizes.Add(message.tool_call_id(), path, ".tool_call_id");
  sizes.Add(message.name(), path, ".name");
  sizes.Add(message.reasoning_content(), path, ".reasoning_content");
  sizes.Add(message.fields(), path, ".fields");
  for (int i = 0; i < message.tool_calls_size(); ++i) {
    const v1::ToolCall& call = message.tool_calls(i);
    const std::string at = absl::StrCat(path, ".tool_calls[", i, "]");
    if (call.name().empty()) return FieldError(absl::StrCat(at, ".name"), "the name of the function is missing");
    sizes.Add(call.id(), at, ".id");
    sizes.Add(call.name(), at, ".name");
    sizes.Add(call.arguments(), at, ".arguments");
  }
  return sizes.status();
}

absl::Status CheckObject(const std::string& text, const std::string& path) {
  const absl::Status status = CheckJsonObject(text);
  return status.ok() ? status : FieldError(path, std::string(status.message()));
}

absl::StatusOr<Json> ReadObject(const std::string& text, const std::string& path) {
  MK_RETURN_IF_ERROR(CheckObject(text, path));
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

std::string Written(const Json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

absl::StatusOr<Json> ToolCalls(const v1::ChatMessage& message, const std::string& path) {
  Json calls = Json::array();
  for (int i = 0; i < message.tool_calls_size(); ++i) {
    const v1::ToolCall& call = message.tool_calls(i);
    Json arguments = Json::object();
    if (!call.arguments().empty()) {
      MK_ASSIGN_OR_RETURN(arguments,
                          ReadObject(call.arguments(), absl::StrCat(path, ".tool_calls[", i, "].arguments")));
    }
    Json entry = Json::object();
    if (!call.id().empty()) entry["id"] = call.id();
    entry["type"] = "function";
    entry["function"] = Json{{"name", call.name()}, {"arguments", std::move(arguments)}};
    calls.push_back(std::move(entry));
  }
  return calls;
}

// Members of the message besides role and content, as ChatMessage::fields wants them.
absl::StatusOr<std::string> Fields(const v1::ChatMessage& message, const std::string& path) {
  Json fields = Json::object();
  if (message.tool_calls_size() > 0) {
    MK_ASSIGN_OR_RETURN(fields["tool_calls"], ToolCalls(message, path));
  }
  if (message.has_tool_call_id()) fields["tool_call_id"] = message.tool_call_id();
  if (message.has_name()) fields["name"] = message.name();
  if (message.has_reasoning_content()) fields["reasoning_content"] = message.reasoning_content();
  if (!message.fields().empty()) {
    const std::string at = absl::StrCat(path, ".fields");
    MK_ASSIGN_OR_RETURN(const Json further, ReadObject(message.fields(), at));
    for (const auto& [name, value] : further.items()) {
      if (name == "role" || fields.contains(name) || (name == "content" && !message.content().empty())) {
        return FieldError(at, absl::StrCat("it names \"", name, "\", which the message sets by a field of its own"));
      }
      fields[name] = value;
    }
  }
  return fields.empty() ? std::string() : Written(fields);
}

absl::StatusOr<Json> ToJson(const google::protobuf::Value& value, const std::string& path);

absl::StatusOr<Json> ToJson(const google::protobuf::Struct& object, const std::string& path) {
  std::vector<std::string_view> names;  // the map's order is not defined
  for (const auto& [name, value] : object.fields()) names.push_back(name);
  std::sort(names.begin(), names.end());
  Json result = Json::object();
  for (const std::string_view name : names) {
    const std::string key(name);
    MK_ASSIGN_OR_RETURN(result[key], ToJson(object.fields().at(key), absl::StrCat(path, ".", key)));
  }
  return result;
}

absl::StatusOr<Json> ToJson(const google::protobuf::Value& value, const std::string& path) {
  constexpr double kExactIntegers = 9007199254740992.0;  // 2^53
  switch (value.kind_case()) {
    case google::protobuf::Value::kNullValue:
      return Json(nullptr);
    case google::protobuf::Value::kBoolValue:
      return Json(value.bool_value());
    case google::protobuf::Value::kStringValue:
      return Json(value.string_value());
    case google::protobuf::Value::kNumberValue: {
      const double number = value.number_value();
      if (!std::isfinite(number)) return FieldError(path, "the number is not finite");
      if (std::trunc(number) == number && std::abs(number) <= kExactIntegers) {
        return Json(static_cast<std::int64_t>(number));
      }
      return Json(number);
    }
    case google::protobuf::Value::kStructValue:
      return ToJson(value.struct_value(), path);
    case google::protobuf::Value::kListValue: {
      Json list = Json::array();
      for (const google::protobuf::Value& item : value.list_value().values()) {
        MK_ASSIGN_OR_RETURN(Json converted, ToJson(item, absl::StrCat(path, "[", list.size(), "]")));
        list.push_back(std::move(converted));
      }
      return list;
    }
    case google::protobuf::Value::KIND_NOT_SET:
      break;
  }
  return FieldError(path, "the value is not set");
}

absl::StatusOr<std::string> Tools(const v1::ChatPrompt& chat, const std::string& path) {
  if (chat.tools().empty()) return std::string();
  for (int i = 0; i < chat.tools_size(); ++i) {
    MK_RETURN_IF_ERROR(CheckObject(chat.tools(i), absl::StrCat(path, ".tools[", i, "]")));
  }
  return absl::StrCat("[", absl::StrJoin(chat.tools(), ","), "]");
}

absl::StatusOr<std::string> Arguments(const v1::ChatPrompt& chat, const std::string& path) {
  if (chat.template_arguments().fields().empty()) return std::string();
  const std::string at = absl::StrCat(path, ".template_arguments");
  for (const std::string_view name : kOwnVariables) {
    if (chat.template_arguments().fields().contains(std::string(name))) {
      return FieldError(absl::StrCat(at, ".", std::string(name)), "the conversation sets this by a field of its own");
    }
  }
  MK_ASSIGN_OR_RETURN(const Json arguments, ToJson(chat.template_arguments(), at));
  std::string text = Written(arguments);
  MK_RETURN_IF_ERROR(CheckObject(text, at));
  return text;
}

}  // namespace

absl::Status CheckChatSizes(const v1::ChatPrompt& chat, const std::string& path) {
  const std::string messages = absl::StrCat(path, ".messages");
  if (chat.messages_size() == 0) return FieldError(messages, "at least one message is needed");
  MK_RETURN_IF_ERROR(CheckCount(chat.messages_size(), kMaxMessages, "messages", messages));
  MK_RETURN_IF_ERROR(CheckCount(chat.tools_size(), kMaxTools, "tools", absl::StrCat(path, ".tools")));
  if (chat.continue_final_message() && AddsGenerationPrompt(chat)) {
    return FieldError(absl::StrCat(path, ".add_generation_prompt"),
                      "add_generation_prompt and continue_final_message exclude each other");
  }
  TextSizes sizes;
  for (int i = 0; i < chat.messages_size(); ++i) {
    MK_RETURN_IF_ERROR(CheckMessage(chat.messages(i), absl::StrCat(messages, "[", i, "]"), sizes));
  }
  for (int i = 0; i < chat.tools_size(); ++i) sizes.Add(chat.tools(i), path, absl::StrCat(".tools[", i, "]"));
  MK_RETURN_IF_ERROR(sizes.status());
  sizes.AddTotal(chat.template_arguments().ByteSizeLong());
  if (sizes.total() > kMaxChatBytes) {
    return FieldError(path, absl::StrCat(sizes.total(), " bytes of text; at most ", kMaxChatBytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<Chat> ConvertChat(const v1::ChatPrompt& chat, const std::string& path) {
  Chat result;
  result.messages.reserve(static_cast<std::size_t>(chat.messages_size()));
  for (const v1::ChatMessage& message : chat.messages()) {
    const std::string at = absl::StrCat(path, ".messages[", result.messages.size(), "]");
    MK_ASSIGN_OR_RETURN(std::string fields, Fields(message, at));
    result.messages.push_back({message.role(), message.content(), std::move(fields)});
  }
  result.options.add_generation_prompt = AddsGenerationPrompt(chat);
  result.options.continue_final_message = chat.continue_final_message();
  MK_ASSIGN_OR_RETURN(result.options.tools, Tools(chat, path));
  MK_ASSIGN_OR_RETURN(result.options.arguments, Arguments(chat, path));
  return result;
}

}  // namespace megakernel
