// Chat templates against transformers' renderer: published ones and made ones, with tools, tool results, thinking and
// continuation (goldens by tests/reference/template_goldens.py).
#include "engine/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <ctime>

#include "engine/text/jinja_template.h"
#include "tests/engine/text/goldens.h"

namespace megakernel {
namespace {

using testing::HasSubstr;
using Json = nlohmann::ordered_json;

constexpr const char* kDate = "26 Jul 2024";  // as in the script

std::unique_ptr<ChatTemplate> Compile(const std::string& source) {
  auto compiled = CreateJinjaTemplate(source, {.bos_token = "<s>", .eos_token = "</s>"});
  EXPECT_TRUE(compiled.ok()) << compiled.status();
  return compiled.ok() ? *std::move(compiled) : nullptr;
}

std::vector<ChatMessage> Messages(const Json& conversation) {
  std::vector<ChatMessage> messages;
  for (const Json& message : conversation) {
    Json fields = message;
    fields.erase("role");
    fields.erase("content");
    messages.push_back({message["role"], message["content"], fields.empty() ? "" : fields.dump()});
  }
  return messages;
}

ChatOptions Options(const Json& options) {
  Json arguments = {{"date_string", kDate}};
  if (options.contains("arguments")) arguments.update(options["arguments"]);
  return {.add_generation_prompt = options.value("add_generation_prompt", false),
          .continue_final_message = options.value("continue_final_message", false),
          .tools = options.contains("tools") ? options["tools"].dump() : "",
          .arguments = arguments.dump()};
}

// Every rendering of a file of goldens.
void ExpectSame(const std::string& path) {
  std::ifstream file(path);
  const Json goldens = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  ASSERT_FALSE(goldens.is_discarded()) << path;
  std::string name;
  std::unique_ptr<ChatTemplate> compiled;
  int same = 0, refused = 0;
  for (const Json& golden : goldens["cases"]) {
    if (golden["template"] != name) {
      name = golden["template"].get<std::string>();
      compiled = Compile(goldens["sources"][name]);
      ASSERT_NE(compiled, nullptr) << name;
    }
    const Json& messages = goldens["conversations"][golden["messages"].get<std::size_t>()];
    const Json& options = goldens["options"][golden["options"].get<std::size_t>()];
    const auto text = compiled->Render(Messages(messages), Options(options));
    if (golden.contains("text")) {
      ASSERT_TRUE(text.ok()) << name << ": " << text.status() << "\n" << messages << options;
      ASSERT_EQ(*text, golden["text"].get<std::string>()) << name << "\n" << messages << options;
      ++same;
    } else {
      ASSERT_TRUE(absl::IsInvalidArgument(text.status())) << name << "\n" << messages << options << golden["error"];
      ++refused;
    }
  }
  std::printf("%zu templates: %d renderings are transformers', %d are refused as there\n", goldens["sources"].size(),
              same, refused);
  EXPECT_GT(same, 400);
}

TEST(ChatTemplateTest, TextIsThatOfTransformers) {
  ExpectSame(std::string(MEGAKERNEL_TEXT_GOLDENS) + "/chat_templates.json");
}

// Goldens of templates that are not in the repository, made by the same script.
TEST(ChatTemplateTest, FurtherGoldens) {
  const char* path = std::getenv("MEGAKERNEL_TEMPLATE_GOLDENS");
  if (path == nullptr) GTEST_SKIP() << "MEGAKERNEL_TEMPLATE_GOLDENS names no file";
  ExpectSame(path);
}

TEST(ChatTemplateTest, MalformedOptionsAreRefusedByName) {
  const auto compiled = Compile("{{ messages[0].content }}");
  const auto refusal = [&](const std::vector<ChatMessage>& messages, const ChatOptions& options) {
    const auto text = compiled->Render(messages, options);
    EXPECT_TRUE(absl::IsInvalidArgument(text.status())) << text.status();
    return std::string(text.status().message());
  };
  const std::vector<ChatMessage> one = {{"user", "x"}};
  EXPECT_THAT(refusal(one, {.tools = "{"}), HasSubstr("tools: not valid JSON"));
  EXPECT_THAT(refusal(one, {.tools = "{}"}), HasSubstr("tools must be a JSON list"));
  EXPECT_THAT(refusal(one, {.arguments = "[]"}), HasSubstr("arguments must be a JSON object"));
  EXPECT_THAT(refusal(one, {.arguments = "{\"messages\":1}"}), HasSubstr("arguments must not name messages"));
  EXPECT_THAT(refusal(one, {.arguments = "{\"a\":1,\"a\":2}"}), HasSubstr("a key appears twice"));
  EXPECT_THAT(refusal(one, {.arguments = "{\"a\":99999999999999999999999}"}), HasSubstr("arguments"));
  EXPECT_THAT(refusal(one, {.arguments = "{\"a\":18446744073709551615}"}), HasSubstr("does not fit in 64 bits"));
  EXPECT_THAT(refusal({{"user", "x"}, {"user", "y", "[]"}}, {}), HasSubstr("messages[1].fields must be a JSON object"));
  EXPECT_THAT(refusal(one, {.tools = std::string(5000, '[')}), HasSubstr("tools: nested more than 100 deep"));
  EXPECT_THAT(refusal(one, {.add_generation_prompt = true, .continue_final_message = true}), HasSubstr("exclude"));
  EXPECT_THAT(refusal({}, {.continue_final_message = true}), HasSubstr("needs a message"));
  EXPECT_THAT(refusal({{"user", "x"}, {"user", "y"}}, {.continue_final_message = true}), HasSubstr("leaves out"));
}

TEST(ChatTemplateTest, ContentOfFieldsTakesThePlace) {
  const auto compiled = Compile("{{ messages[0].content is none }} {{ messages[1].content[0].text }}");
  EXPECT_EQ(*compiled->Render({{"assistant", "x", R"({"content": null})"},
                               {"user", "y", R"({"content": [{"type": "text", "text": "z"}]})"}},
                              ChatOptions{}),
            "True z");
}

TEST(MacroTest, MistakesNameTheLine) {
  const auto at_load = [](const std::string& source) {
    return std::string(CreateJinjaTemplate(source, {}).status().message());
  };
  EXPECT_THAT(at_load("{% if x %}{% macro f() %}{% endmacro %}{% endif %}"), HasSubstr("the statement macro is not"));
  EXPECT_THAT(at_load("{{ f() }}{% macro f() %}{% endmacro %}"), HasSubstr("the function f is not supported"));
  EXPECT_THAT(at_load("\n{% macro f(a %}"), HasSubstr("line 2"));
  const auto at_render = [](const std::string& source) {
    return std::string(Compile(source)->Render({}, ChatOptions{}).status().message());
  };
  EXPECT_THAT(at_render("{% macro f(a) %}{{ f(a) }}{% endmacro %}{{ f(1) }}"), HasSubstr("macros nested more than 16"));
  EXPECT_THAT(at_render("{% macro f(a) %}{% endmacro %}\n{{ f(1, 2) }}"), HasSubstr("line 2: the macro f has no such"));
  EXPECT_THAT(at_render("{% macro f(a) %}{% endmacro %}{{ f(b=2) }}"), HasSubstr("has no such argument"));
  EXPECT_THAT(at_render("{% macro f(a) %}{% endmacro %}{{ f(1, a=2) }}"), HasSubstr("gets a twice"));
  EXPECT_EQ(
      *Compile("{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f() }}|{{ f(b=1) }}")->Render({}, ChatOptions{}),
      "2|1");
}

TEST(MacroTest, SeesTheTopLevelAndNotItsCaller) {
  EXPECT_EQ(*Compile("{% macro f() %}{{ a }}{{ b is defined }}{% endmacro %}{% set a = 1 %}"
                     "{% for b in [1] %}{{ f() }}{{ b }}{% endfor %}")
                 ->Render({}, ChatOptions{}),
            "1False1");
}

TEST(DateTest, IsTheLocalTime) {
  const std::time_t before = std::time(nullptr);
  const std::string text = *Compile("{{ strftime_now('%Y-%m-%d %H:%M') }}")->Render({}, ChatOptions{});
  const std::time_t after = std::time(nullptr);
  char first[64], last[64];
  std::strftime(first, sizeof(first), "%Y-%m-%d %H:%M", std::localtime(&before));
  std::strftime(last, sizeof(last), "%Y-%m-%d %H:%M", std::localtime(&after));
  EXPECT_TRUE(text == first || text == last) << text;
}

}  // namespace
}  // namespace megakernel
