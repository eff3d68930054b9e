// Chat templates against Jinja 3 with transformers' settings, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "engine/text/jinja_template.h"
#include "tests/engine/text/goldens.h"

namespace megakernel {
namespace {

using testing::HasSubstr;

const TemplateTokens kTokens = {.bos_token = "<s>", .eos_token = "</s>"};

absl::StatusOr<std::string> Render(const std::string& source, const std::vector<ChatMessage>& messages = {}) {
  auto compiled = CreateJinjaTemplate(source, kTokens);
  if (!compiled.ok()) return compiled.status();
  return (*compiled)->Render(messages, true);
}

TEST(JinjaTest, TextIsThatOfJinja) {
  const nlohmann::json goldens = ReadGoldens("templates.json");
  ASSERT_GT(goldens["cases"].size(), 60u);
  for (const auto& golden : goldens["cases"]) {
    const auto name = golden["name"].get<std::string>();
    auto compiled = CreateJinjaTemplate(goldens["sources"][name].get<std::string>(), kTokens);
    ASSERT_TRUE(compiled.ok()) << name << ": " << compiled.status();
    std::vector<ChatMessage> messages;
    for (const auto& message : golden["messages"]) messages.push_back({message["role"], message["content"]});
    const auto text = (*compiled)->Render(messages, golden["add_generation_prompt"].get<bool>());
    if (golden.contains("text")) {
      ASSERT_TRUE(text.ok()) << name << ": " << text.status();
      ASSERT_EQ(*text, golden["text"].get<std::string>()) << name << " " << golden["messages"];
    } else {
      ASSERT_FALSE(text.ok()) << name;
      EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
      if (golden.contains("refusal")) {
        EXPECT_THAT(std::string(text.status().message()), HasSubstr(golden["refusal"].get<std::string>()));
      }
    }
  }
}

struct Refusal {
  const char* source;
  const char* message;
};

class RefusedAtLoadTest : public testing::TestWithParam<Refusal> {};

TEST_P(RefusedAtLoadTest, NamesTheLine) {
  const auto compiled = CreateJinjaTemplate(GetParam().source, kTokens);
  ASSERT_FALSE(compiled.ok()) << GetParam().source;
  EXPECT_EQ(compiled.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(compiled.status().message()), HasSubstr(GetParam().message)) << GetParam().source;
}

INSTANTIATE_TEST_SUITE_P(
    Cases, RefusedAtLoadTest,
    testing::Values(Refusal{"a\nb\n{% import 'x' as y %}", "line 3: the statement import is not supported"},
                    Refusal{"{% include 'x' %}", "line 1: the statement include"},
                    Refusal{"\n{{ x | frobnicate }}", "line 2: the filter frobnicate is not supported"},
                    Refusal{"{{ x is frobbed }}", "line 1: the test frobbed is not supported"},
                    Refusal{"{{ x.frob() }}", "line 1: the method frob is not supported"},
                    Refusal{"{{ cycler('%d') }}", "line 1: the function cycler is not supported"},
                    Refusal{"{{ x", "line 1: the tag is not closed by }}"},
                    Refusal{"{% if x %}", "line 1: the template ends before endif"},
                    Refusal{"{% for x in y %}{% endif %}", "the statement endif is not supported here"},
                    Refusal{"{% break %}", "the statement break is not supported here"},
                    Refusal{"{% for x in y recursive %}{% endfor %}", "recursive loops are not supported"},
                    Refusal{"{# open", "the comment is not closed"}, Refusal{"{{ 'open }}", "the string is not closed"},
                    Refusal{"{{ a ! b }}", "unexpected character '!'"}, Refusal{"{{ a + }}", "expected an expression"},
                    Refusal{"{{ ) }}", "')' closes nothing"}, Refusal{"{{ (a }}", "'}' closes nothing"},
                    Refusal{"{{ a b }}", "expected '}}', not b"}, Refusal{"{% set a %}", "ends before endset"},
                    Refusal{"{{ 99999999999999999999 }}", "is more than 2^63"},
                    Refusal{"{{ 0x10 }}", "numbers are decimal digits"}, Refusal{"{{ '\\xZZ' }}", "escape"},
                    Refusal{"{{ 2 ** 3 }}", "the operator ** is not supported"},
                    Refusal{"{{ x | replace('a') }}", "replace needs 2 arguments"},
                    Refusal{"{{ x | trim(frob=1) }}", "trim has no argument frob"},
                    Refusal{"{{ x | trim('a', 'b') }}", "trim takes at most 1 arguments"},
                    Refusal{"{{ messages[0]() }}", "only functions and methods can be called"},
                    Refusal{"{{ range() }}", "range needs 1 to 3 arguments"}));

TEST(JinjaLimitsTest, DeepNestingIsRefused) {
  for (const auto& [open, close] : std::vector<std::pair<std::string, std::string>>{
           {"(", ")"}, {"[", "]"}, {"not ", ""}, {"-", ""}, {"a[", "]"}, {"1 if ", " else 2"}}) {
    std::string source = "{{ ";
    for (int i = 0; i < 5000; ++i) source += open;
    source += "1";
    for (int i = 0; i < 5000; ++i) source += close;
    const auto text = Render(source + " }}");
    ASSERT_FALSE(text.ok()) << open;
    EXPECT_THAT(std::string(text.status().message()), HasSubstr("nested more than 200 deep")) << open;
  }
  std::string sum = "{{ 1";
  for (int i = 0; i < 5000; ++i) sum += " + 1";
  EXPECT_THAT(std::string(Render(sum + " }}").status().message()), HasSubstr("nested more than 200 deep"));
  std::string blocks;
  for (int i = 0; i < 5000; ++i) blocks += "{% if true %}";
  EXPECT_THAT(std::string(Render(blocks).status().message()), HasSubstr("nested more than 200 deep"));
}

// Each would take more time or memory than there is.
class BombTest : public testing::TestWithParam<Refusal> {};

TEST_P(BombTest, IsStopped) {
  const auto begin = std::chrono::steady_clock::now();
  const auto text = Render(GetParam().source);
  ASSERT_FALSE(text.ok()) << GetParam().source;
  EXPECT_THAT(std::string(text.status().message()), HasSubstr(GetParam().message)) << GetParam().source;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(60)) << GetParam().source;
}

INSTANTIATE_TEST_SUITE_P(
    Cases, BombTest,
    testing::Values(
        Refusal{"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
                "more than 10000000"},
        Refusal{"{{ range(100000000) | length }}", "range: 100000000 is not in"},
        Refusal{
            "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
            "too long"},
        Refusal{
            "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            "text of 33554432 bytes (at most 16777216)"},
        Refusal{"{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
                "a list of more than 1048576 elements"},
        Refusal{"{% set ns = namespace(x=[1]) %}{% for i in range(90) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}",
                "a list of more than 1048576 elements"},
        Refusal{"{% set ns = namespace(x=1) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}",
                "lists nested more than 100 deep"},
        Refusal{"{% set ns = namespace() %}{% set ns.x = ns %}", "a namespace cannot hold a namespace"},
        Refusal{"{% set ns = namespace() %}{% set ns.x = [ns] %}", "a list cannot hold a namespace"},
        Refusal{"{% for i in range(1000000) %}0123456789012345678901234567890123456789012345678901234567890123456789{% "
                "endfor %}",
                "the template prints more than 16777216 bytes"},
        Refusal{"{% set x = '0123456789' | list | join('0123456789') %}{{ x | replace('0', x) | replace('1', x) | "
                "replace('2', x) "
                "| replace('3', x) | replace('4', x) | replace('5', x) }}",
                "replace makes too much text"}));

class ErrorTest : public testing::TestWithParam<Refusal> {};

TEST_P(ErrorTest, NamesTheLine) {
  const auto text = Render(GetParam().source);
  ASSERT_FALSE(text.ok()) << GetParam().source << " gave " << *text;
  EXPECT_THAT(std::string(text.status().message()), HasSubstr(GetParam().message)) << GetParam().source;
}

INSTANTIATE_TEST_SUITE_P(
    Cases, ErrorTest,
    testing::Values(Refusal{"\n\n{{ nothing.field }}", "line 3: nothing is undefined, so it has no field"},
                    Refusal{"{{ messages[0].role }}", "undefined, so it has no role"},
                    Refusal{"{{ 'a' + 1 }}", "cannot add a string and an integer"},
                    Refusal{"{{ 1 // 0 }}", "division by zero"}, Refusal{"{{ 1 % 0 }}", "division by zero"},
                    Refusal{"{{ 9223372036854775807 + 1 }}", "does not fit in 64 bits"},
                    Refusal{"{{ [1] }}", "cannot print a list"}, Refusal{"{{ 1 < 'a' }}", "cannot order"},
                    Refusal{"{% for a, b in [1] %}{% endfor %}", "cannot take an integer apart into 2 names"},
                    Refusal{"{% set messages.x = 1 %}", "messages is not a namespace"},
                    Refusal{"{{ '\xC3\xA9' | upper }}", "beyond ASCII"},
                    Refusal{"{{ raise_exception('no ' ~ 'way') }}", "refuses the conversation: no way"},
                    Refusal{"{{ [1][::0] }}", "the step of a slice"}, Refusal{"{{ 1 | length }}", "has no length"}));

TEST(JinjaTest, SourceOverTheLimit) {
  EXPECT_THAT(std::string(Render(std::string((1 << 20) + 1, 'x')).status().message()), HasSubstr("at most 1048576"));
}

}  // namespace
}  // namespace megakernel
