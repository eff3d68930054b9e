#include "engine/text/jinja_template.h"

#include <utility>

#include "engine/text/jinja/evaluator.h"
#include "engine/text/jinja/parser.h"

namespace megakernel {
namespace {

class JinjaTemplate final : public ChatTemplate {
 public:
  JinjaTemplate(jinja::Body body, TemplateTokens tokens) : body_(std::move(body)), tokens_(std::move(tokens)) {}

  absl::StatusOr<std::string> Render(const std::vector<ChatMessage>& messages,
                                     bool add_generation_prompt) const override {
    using jinja::Value;
    jinja::List list;
    for (const ChatMessage& message : messages) {
      list.push_back(Value::MakeDict(
          {{"role", Value::MakeString(message.role)}, {"content", Value::MakeString(message.content)}}));
    }
    jinja::Dict globals = {{"messages", Value::MakeList(std::move(list))},
                           {"add_generation_prompt", Value::MakeBool(add_generation_prompt)},
                           {"tools", Value::MakeNone()},
                           {"documents", Value::MakeNone()}};
    const std::pair<const char*, const std::string&> tokens[] = {{"bos_token", tokens_.bos_token},
                                                                 {"eos_token", tokens_.eos_token},
                                                                 {"unk_token", tokens_.unk_token},
                                                                 {"pad_token", tokens_.pad_token}};
    for (const auto& [name, text] : tokens) {
      if (!text.empty()) globals.emplace_back(name, Value::MakeString(text));
    }
    return jinja::Evaluator(globals).Render(body_);
  }

 private:
  jinja::Body body_;
  TemplateTokens tokens_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> CreateJinjaTemplate(std::string_view source, TemplateTokens tokens) {
  absl::StatusOr<jinja::Body> body = jinja::Parse(source);
  if (!body.ok()) return body.status();
  return std::make_unique<JinjaTemplate>(*std::move(body), std::move(tokens));
}

}  // namespace megakernel
