// The parts of the `megakernel` program that need no server: flags, generation flags, prompts, JSON.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "clients/cli/command.h"
#include "clients/cli/flags.h"
#include "clients/cli/generation_flags.h"
#include "clients/cli/prompt.h"
#include "clients/cli/template_flags.h"
#include "google/protobuf/descriptor.h"

namespace megakernel::cli {
namespace {

class FlagSetTest : public ::testing::Test {
 protected:
  FlagSetTest() {
    flags_.Group("Things");
    flags_.Text("name", "TEXT", "A name.", &name_);
    flags_.Seconds("timeout", "A time.", &timeout_);
    flags_.Switch("loud", "Noise.", &loud_);
  }

  std::string Message(const Arguments& arguments) { return std::string(flags_.Parse(arguments).status().message()); }

  FlagSet flags_;
  std::string name_;
  double timeout_ = 0;
  bool loud_ = false;
};

TEST_F(FlagSetTest, Spellings) {
  const auto rest = flags_.Parse({"one", "--name", "-1", "--timeout=0.5", "--loud", "-", "--", "--name"});
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_EQ(*rest, (std::vector<std::string>{"one", "-", "--name"}));
  EXPECT_EQ(name_, "-1") << "a value may look like a flag";
  EXPECT_EQ(timeout_, 0.5);
  EXPECT_TRUE(loud_);
  ASSERT_TRUE(flags_.Parse({"--no-loud", "--name="}).ok());
  EXPECT_FALSE(loud_);
  EXPECT_EQ(name_, "");
}

TEST_F(FlagSetTest, MistakesAreNamed) {
  EXPECT_EQ(Message({"--nmae", "x"}), "unknown flag --nmae; did you mean --name?");
  EXPECT_EQ(Message({"--tim", "x"}), "unknown flag --tim; did you mean --timeout?");
  EXPECT_EQ(Message({"-name"}), "unknown flag -name; did you mean --name?");
  EXPECT_EQ(Message({"--qqqqqqqqqqqqqqqq=1"}), "unknown flag --qqqqqqqqqqqqqqqq");
  EXPECT_EQ(Message({"--no-name"}), "unknown flag --no-name; did you mean --name?");
  EXPECT_EQ(Message({"--name"}), "--name needs a value: --name TEXT");
  EXPECT_EQ(Message({"--loud=1"}), "--loud takes no value; write --loud or --no-loud");
  EXPECT_EQ(Message({"--timeout", "soon"}), "--timeout: expected seconds above 0, got 'soon'");
  EXPECT_EQ(Message({"--timeout", "0"}), "--timeout: expected seconds above 0, got '0'");
  EXPECT_EQ(Message({"--timeout", "nan"}), "--timeout: expected seconds above 0, got 'nan'");
}

TEST_F(FlagSetTest, HelpListsEveryFlagUnderItsGroup) {
  EXPECT_EQ(flags_.Help(),
            "\nThings:\n"
            "  --name TEXT                 A name.\n"
            "  --timeout SECONDS           A time.\n"
            "  --loud                      Noise.\n");
}

TEST(NearestTest, Words) {
  EXPECT_EQ(Nearest("genrate", {"generate", "chat"}), "generate");
  EXPECT_EQ(Nearest("gen", {"generate", "chat"}), "generate");
  EXPECT_EQ(Nearest("xyzzy", {"generate", "chat"}), "");
  EXPECT_EQ(Nearest("", {"generate"}), "");
}

TEST(ParseTest, Lists) {
  EXPECT_EQ(*ParseInt32List("1,2, 3\n4"), (std::vector<std::int32_t>{1, 2, 3, 4}));
  for (const char* text : {"", " ", "1,x", "1.5", "99999999999"}) EXPECT_FALSE(ParseInt32List(text).ok()) << text;
}

// Every field of the parameter messages has a flag of its name, and the flag sets it.
TEST(GenerationFlagsTest, EveryFieldHasAFlag) {
  FlagSet flags;
  v1::SamplingParameters sampling;
  v1::StoppingCriteria stopping;
  v1::OutputOptions output;
  AddSamplingFlags(&flags, &sampling);
  AddStoppingFlags(&flags, &stopping);
  AddOutputFlags(&flags, &output);
  int fields = 0;
  for (google::protobuf::Message* message : std::vector<google::protobuf::Message*>{&sampling, &stopping, &output}) {
    const google::protobuf::Descriptor* descriptor = message->GetDescriptor();
    for (int i = 0; i < descriptor->field_count(); ++i, ++fields) {
      const google::protobuf::FieldDescriptor* field = descriptor->field(i);
      std::string flag = "--" + field->name();
      std::replace(flag.begin(), flag.end(), '_', '-');
      Arguments arguments = {flag};
      if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_BOOL) {
        arguments.push_back(field->is_map() ? "5=1.5" : "3");
      }
      const auto rest = flags.Parse(arguments);
      ASSERT_TRUE(rest.ok()) << rest.status();
      const google::protobuf::Reflection* reflection = message->GetReflection();
      EXPECT_TRUE(field->is_repeated() ? reflection->FieldSize(*message, field) == 1
                                       : reflection->HasField(*message, field))
          << flag;
    }
  }
  EXPECT_EQ(fields, 10 + 6 + 5);
}

TEST(GenerationFlagsTest, ValuesArriveAndAbsentStaysAbsent) {
  FlagSet flags;
  v1::SamplingParameters sampling;
  v1::StoppingCriteria stopping;
  v1::OutputOptions output;
  AddSamplingFlags(&flags, &sampling);
  AddStoppingFlags(&flags, &stopping);
  AddOutputFlags(&flags, &output);
  ASSERT_TRUE(flags
                  .Parse({"--temperature", "0", "--seed=18446744073709551615", "--logit-bias", "7=-100",
                          "--logit-bias=9=2", "--allowed-token-ids", "1,2", "--allowed-token-ids=3", "--stop", "a,b",
                          "--stop=\n", "--no-text", "--ignore-eos"})
                  .ok());
  EXPECT_TRUE(sampling.has_temperature());
  EXPECT_EQ(sampling.temperature(), 0);
  EXPECT_EQ(sampling.seed(), UINT64_MAX);
  EXPECT_EQ(sampling.logit_bias().at(7), -100);
  EXPECT_EQ(sampling.logit_bias().at(9), 2);
  EXPECT_EQ(sampling.allowed_token_ids_size(), 3);
  EXPECT_FALSE(sampling.has_top_p());
  EXPECT_EQ(std::vector<std::string>(stopping.stop().begin(), stopping.stop().end()),
            (std::vector<std::string>{"a,b", "\n"}));
  EXPECT_TRUE(stopping.ignore_eos());
  EXPECT_FALSE(stopping.has_include_stop());
  EXPECT_TRUE(output.has_text());
  EXPECT_FALSE(output.text());
  for (const Arguments& wrong : std::vector<Arguments>{{"--seed", "-1"},
                                                       {"--max-tokens", "1.5"},
                                                       {"--max-tokens", "3000000000"},
                                                       {"--temperature", "hot"},
                                                       {"--logit-bias", "7"},
                                                       {"--logit-bias", "x=1"},
                                                       {"--stop-token-ids", ""}}) {
    EXPECT_FALSE(flags.Parse(wrong).ok()) << wrong[0] << " " << wrong[1];
  }
}

TEST(PromptTest, Utf8) {
  for (const char* good :
       {"", "abc", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(IsUtf8(good)) << good;
  }
  for (const char* bad : {"\x80", "\xc3", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
                          "\xf4\x90\x80\x80", "\xff", "a\xe2\x82", "\xc3("}) {
    EXPECT_FALSE(IsUtf8(bad)) << bad;
  }
}

TEST(PromptTest, Conversation) {
  FlagSet flags;
  PromptFlags prompt;
  AddPromptFlags(&flags, &prompt, /*with_tokens=*/true);
  ASSERT_TRUE(flags.Parse({"--system", "Be brief.", "--message", "user=1+1=?", "--message=assistant=2"}).ok());
  EXPECT_TRUE(prompt.IsChat());
  const v1::ChatPrompt chat = MakeConversation(prompt, "And 2+2?");
  ASSERT_EQ(chat.messages_size(), 4);
  EXPECT_EQ(chat.messages(0).role(), "system");
  EXPECT_EQ(chat.messages(1).content(), "1+1=?");
  EXPECT_EQ(chat.messages(2).role(), "assistant");
  EXPECT_EQ(chat.messages(3).content(), "And 2+2?");
  EXPECT_FALSE(flags.Parse({"--message", "hello"}).ok());
  EXPECT_FALSE(flags.Parse({"--tokens", "1,,x"}).ok());
}

TEST(JsonTest, Strings) {
  EXPECT_EQ(JsonString("a\"b\\c\nd\x01\xc3\xa9"), "\"a\\\"b\\\\c\\nd\\u0001\xc3\xa9\"");
}

TEST(JsonTest, MessagesKeepTheNamesOfTheProto) {
  v1::GenerateResponse response;
  response.mutable_delta()->add_token_ids(5);
  EXPECT_EQ(ToJson(response),
            "{\"delta\":{\"index\":0,\"token_ids\":[5],\"text\":\"\",\"logprobs\":[],\"prompt_logprobs\":[]}}");
}

TEST(TemplateFlagsTest, MessagesAsOpenAiWritesThem) {
  v1::ChatPrompt chat;
  const absl::Status status = AddJsonMessages(
      R"([{"role": "user", "content": "Hi", "name": "Ann"},
          {"role": "assistant", "content": null, "reasoning_content": "hm", "weight": 0, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"z\": 1, \"a\": 2.0}"}},
            {"function": {"name": "g", "arguments": {"z": 1, "a": 2.0}}}, {"function": {"name": "h"}}]},
          {"role": "tool", "content": "7", "tool_call_id": "c1"}])",
      &chat);
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_EQ(chat.messages_size(), 3);
  EXPECT_EQ(chat.messages(0).role(), "user");
  EXPECT_EQ(chat.messages(0).content(), "Hi");
  EXPECT_EQ(chat.messages(0).name(), "Ann");
  EXPECT_EQ(chat.messages(0).fields(), "");
  const v1::ChatMessage& assistant = chat.messages(1);
  EXPECT_EQ(assistant.content(), "");
  EXPECT_EQ(assistant.fields(), R"({"content":null,"weight":0})");
  EXPECT_EQ(assistant.reasoning_content(), "hm");
  ASSERT_EQ(assistant.tool_calls_size(), 3);
  EXPECT_EQ(assistant.tool_calls(0).id(), "c1");
  EXPECT_EQ(assistant.tool_calls(0).name(), "f");
  EXPECT_EQ(assistant.tool_calls(0).arguments(), R"({"z": 1, "a": 2.0})");
  EXPECT_EQ(assistant.tool_calls(1).arguments(), R"({"z":1,"a":2.0})") << "in the order given";
  EXPECT_EQ(assistant.tool_calls(2).arguments(), "{}");
  EXPECT_EQ(chat.messages(2).tool_call_id(), "c1");
}

TEST(TemplateFlagsTest, BadMessagesAreNamed) {
  const auto refusal = [](const std::string& json) {
    v1::ChatPrompt chat;
    return std::string(AddJsonMessages(json, &chat).message());
  };
  EXPECT_EQ(refusal("{}"), "expected a JSON list");
  EXPECT_EQ(refusal("[1]"), "expected a JSON list of objects");
  for (const char* calls :
       {"7", "[7]", "[{}]", R"([{"function": {"name": 1}}])", R"([{"type": "x", "function": {"name": "f"}}])",
        R"([{"function": {"name": "f", "arguments": [1]}}])", R"([{"id": 1, "function": {"name": "f"}}])"}) {
    EXPECT_EQ(refusal(R"([{"role": "user"}, {"role": "assistant", "tool_calls": )" + std::string(calls) + "}]"),
              "message 1: tool_calls are not function calls with a name and arguments")
        << calls;
  }
}

TEST(TemplateFlagsTest, ToolsAndArguments) {
  v1::ChatPrompt chat;
  ASSERT_TRUE(SetTools(R"([{"b": 1, "a": {}}, {}])", &chat).ok());
  ASSERT_EQ(chat.tools_size(), 2);
  EXPECT_EQ(chat.tools(0), R"({"b":1,"a":{}})");
  FlagSet flags;
  AddTemplateFlags(&flags, &chat);
  ASSERT_TRUE(flags.Parse({"--template-args", R"({"enable_thinking": false, "n": [1]})"}).ok());
  EXPECT_FALSE(chat.template_arguments().fields().at("enable_thinking").bool_value());
  EXPECT_TRUE(chat.template_arguments().fields().at("enable_thinking").has_bool_value());
}

}  // namespace
}  // namespace megakernel::cli
