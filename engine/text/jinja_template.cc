#include "engine/text/jinja_template.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/text/jinja/evaluator.h"
#include "engine/text/jinja/json_value.h"
#include "engine/text/jinja/parser.h"
#include "engine/text/jinja/text_operations.h"

namespace megakernel {
namespace {

using jinja::Value;

// Put behind the last message to find where it ends. A template that trims the message takes the space away.
constexpr std::string_view kEndMark = "CONTINUE_FINAL_MESSAGE_TAG ";

absl::StatusOr<Value> ReadJson(const std::string& text, const std::string& what, bool wants_list) {
  auto value = jinja::ParseJson(text);
  if (!value.ok()) return absl::InvalidArgumentError(absl::StrCat(what, ": ", value.status().message()));
  if (wants_list ? !value->IsList() : !value->IsDict()) {
    return absl::InvalidArgumentError(absl::StrCat(what, " must be a JSON ", wants_list ? "list" : "object"));
  }
  return value;
}

absl::StatusOr<Value> MessageValue(const ChatMessage& message, std::size_t index) {
  jinja::Dict members = {{"role", Value::MakeString(message.role)}, {"content", Value::MakeString(message.content)}};
  if (!message.fields.empty()) {
    MK_ASSIGN_OR_RETURN(const Value fields,
                        ReadJson(message.fields, absl::StrCat("messages[", index, "].fields"), false));
    for (const auto& [name, value] : fields.AsDict()) jinja::SetEntry(members, name, value);
  }
  return Value::MakeDict(std::move(members));
}

class JinjaTemplate final : public ChatTemplate {
 public:
  JinjaTemplate(jinja::Body body, TemplateTokens tokens) : body_(std::move(body)), tokens_(std::move(tokens)) {}

  using ChatTemplate::Render;
  absl::StatusOr<std::string> Render(const std::vector<ChatMessage>& messages,
                                     const ChatOptions& options) const override {
    if (!options.continue_final_message) return RenderAll(messages, options);
    if (options.add_generation_prompt) {
      return absl::InvalidArgumentError("continue_final_message and add_generation_prompt exclude each other");
    }
    if (messages.empty()) return absl::InvalidArgumentError("continue_final_message needs a message");
    std::vector<ChatMessage> marked = messages;
    marked.back().content += kEndMark;
    MK_ASSIGN_OR_RETURN(const std::string text, RenderAll(marked, options));
    return CutAtMark(text, messages.back().content);
  }

 private:
  static absl::StatusOr<std::string> CutAtMark(std::string_view text, std::string_view content) {
    const std::string_view mark = kEndMark.substr(0, kEndMark.size() - 1);
    const std::size_t end = text.rfind(mark);
    const std::string_view trimmed = jinja::Strip(content, "", jinja::Sides::kBoth);
    if (end == std::string_view::npos || text.find(trimmed) == std::string_view::npos) {
      return absl::InvalidArgumentError("the chat template changes or leaves out the message that is to be continued");
    }
    const bool kept_space = text.substr(end).starts_with(kEndMark);
    text = text.substr(0, end);
    return std::string(kept_space ? text : jinja::Strip(text, "", jinja::Sides::kRight));
  }

  absl::StatusOr<std::string> RenderAll(const std::vector<ChatMessage>& messages, const ChatOptions& options) const {
    jinja::List list;
    for (const ChatMessage& message : messages) {
      MK_ASSIGN_OR_RETURN(Value value, MessageValue(message, list.size()));
      list.push_back(std::move(value));
    }
    Value tools = Value::MakeNone();
    if (!options.tools.empty()) {
      MK_ASSIGN_OR_RETURN(tools, ReadJson(options.tools, "tools", true));
    }
    jinja::Dict globals = {{"messages", Value::MakeList(std::move(list))},
                           {"add_generation_prompt", Value::MakeBool(options.add_generation_prompt)},
                           {"tools", std::move(tools)},
                           {"documents", Value::MakeNone()}};
    AddTokens(globals);
    if (!options.arguments.empty()) {
      MK_ASSIGN_OR_RETURN(const Value arguments, ReadJson(options.arguments, "arguments", false));
      for (const auto& [name, value] : arguments.AsDict()) {
        if (name == "messages") return absl::InvalidArgumentError("arguments must not name messages");
        jinja::SetEntry(globals, name, value);
      }
    }
    return jinja::Evaluator(globals).Render(body_);
  }

  void AddTokens(jinja::Dict& globals) const {
    const std::pair<const char*, const std::string&> tokens[] = {{"bos_token", tokens_.bos_token},
                                                                 {"eos_token", tokens_.eos_token},
                                                                 {"unk_token", tokens_.unk_token},
                                                                 {"pad_token", tokens_.pad_token}};
    for (const auto& [name, text] : tokens) {
      if (!text.empty()) globals.emplace_back(name, Value::MakeString(text));
    }
  }

  jinja::Body body_;
  TemplateTokens tokens_;
};

}  // namespace

absl::Status CheckJsonObject(std::string_view text) {
  const auto value = jinja::ParseJson(text);
  if (!value.ok()) return value.status();
  return value->IsDict() ? absl::OkStatus() : absl::InvalidArgumentError("not a JSON object");
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> CreateJinjaTemplate(std::string_view source, TemplateTokens tokens) {
  absl::StatusOr<jinja::Body> body = jinja::Parse(source);
  if (!body.ok()) return body.status();
  return std::make_unique<JinjaTemplate>(*std::move(body), std::move(tokens));
}

}  // namespace megakernel
