// Conversations with tools, calls, further fields and template arguments: what is refused, with the field at fault, and
// what the template gets to see.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/text/jinja_template.h"
#include "server/chat_conversion.h"
#include "tests/server/test_server.h"

namespace megakernel::testing {
namespace {

using ::testing::HasSubstr;

v1::ChatMessage& AddMessage(v1::ChatPrompt& chat, const std::string& role, const std::string& content) {
  v1::ChatMessage& message = *chat.add_messages();
  message.set_role(role);
  message.set_content(content);
  return message;
}

v1::ToolCall& AddCall(v1::ChatPrompt& chat, const std::string& name, const std::string& arguments) {
  v1::ToolCall& call = *chat.mutable_messages(0)->add_tool_calls();
  call.set_name(name);
  call.set_arguments(arguments);
  return call;
}

google::protobuf::Value& Argument(v1::ChatPrompt& chat, const std::string& name) {
  return (*chat.mutable_template_arguments()->mutable_fields())[name];
}

const std::string kTooLong((1 << 20) + 1, 'x');
constexpr int kDeepest = 100;

struct BadChat {
  const char* name;
  std::function<void(v1::ChatPrompt&)> spoil;
  const char* field;
  const char* says;
};

const BadChat kBadChats[] = {
    {"role_missing", [](auto& c) { c.mutable_messages(0)->clear_role(); }, "chat.messages[0].role", "missing"},
    {"role_long", [](auto& c) { c.mutable_messages(0)->set_role(kTooLong); }, "chat.messages[0].role", "1048576"},
    {"tool_call_id_long", [](auto& c) { c.mutable_messages(0)->set_tool_call_id(kTooLong); },
     "chat.messages[0].tool_call_id", "1048577 bytes; at most 1048576"},
    {"name_long", [](auto& c) { c.mutable_messages(0)->set_name(kTooLong); }, "chat.messages[0].name", "1048576"},
    {"reasoning_long", [](auto& c) { c.mutable_messages(0)->set_reasoning_content(kTooLong); },
     "chat.messages[0].reasoning_content", "1048576"},
    {"fields_long", [](auto& c) { c.mutable_messages(0)->set_fields(kTooLong); }, "chat.messages[0].fields", "1048576"},
    {"fields_no_json", [](auto& c) { c.mutable_messages(0)->set_fields("{name: 1}"); }, "chat.messages[0].fields",
     "not valid JSON"},
    {"fields_list", [](auto& c) { c.mutable_messages(0)->set_fields("[1]"); }, "chat.messages[0].fields",
     "not a JSON object"},
    {"fields_role", [](auto& c) { c.mutable_messages(0)->set_fields("{\"role\": \"system\"}"); },
     "chat.messages[0].fields", "it names \"role\""},
    {"fields_content_twice", [](auto& c) { c.mutable_messages(0)->set_fields("{\"content\": null}"); },
     "chat.messages[0].fields", "it names \"content\""},
    {"fields_name_twice",
     [](auto& c) {
       c.mutable_messages(0)->set_name("a");
       c.mutable_messages(0)->set_fields("{\"name\": \"b\"}");
     },
     "chat.messages[0].fields", "it names \"name\""},
    {"fields_repeated", [](auto& c) { c.mutable_messages(0)->set_fields("{\"a\": 1, \"a\": 2}"); },
     "chat.messages[0].fields", "a key appears twice"},
    {"fields_deep",
     [](auto& c) {
       const std::string open(kDeepest, '['), close(kDeepest, ']');
       c.mutable_messages(0)->set_fields("{\"a\": " + open + close + "}");
     },
     "chat.messages[0].fields", "nested more than 100 deep"},
    {"calls_many",
     [](auto& c) {
       for (int i = 0; i < 129; ++i) AddCall(c, "f", "{}");
     },
     "chat.messages[0].tool_calls", "129 calls; at most 128"},
    {"call_without_name", [](auto& c) { AddCall(c, "", "{}"); }, "chat.messages[0].tool_calls[0].name", "missing"},
    {"call_id_long", [](auto& c) { AddCall(c, "f", "").set_id(kTooLong); }, "chat.messages[0].tool_calls[0].id",
     "1048576"},
    {"call_name_long", [](auto& c) { AddCall(c, kTooLong, ""); }, "chat.messages[0].tool_calls[0].name", "1048576"},
    {"arguments_long", [](auto& c) { AddCall(c, "f", kTooLong); }, "chat.messages[0].tool_calls[0].arguments",
     "1048576"},
    {"arguments_cut", [](auto& c) { AddCall(c, "f", "{\"city\":"); }, "chat.messages[0].tool_calls[0].arguments",
     "not valid JSON"},
    {"arguments_break_out", [](auto& c) { AddCall(c, "f", "{}}, \"role\": {\"a\": 1}"); },
     "chat.messages[0].tool_calls[0].arguments", "not valid JSON"},
    {"arguments_of_the_second",
     [](auto& c) {
       AddCall(c, "f", "{}");
       AddCall(c, "g", "7");
     },
     "chat.messages[0].tool_calls[1].arguments", "not a JSON object"},
    {"arguments_large_number", [](auto& c) { AddCall(c, "f", "{\"n\": 18446744073709551615}"); },
     "chat.messages[0].tool_calls[0].arguments", "64 bits"},
    {"tools_many",
     [](auto& c) {
       for (int i = 0; i < 129; ++i) c.add_tools("{}");
     },
     "chat.tools", "129 tools; at most 128"},
    {"tool_long", [](auto& c) { c.add_tools(kTooLong); }, "chat.tools[0]", "1048577 bytes; at most 1048576"},
    {"tool_empty", [](auto& c) { c.add_tools(""); }, "chat.tools[0]", "not valid JSON"},
    {"tool_text",
     [](auto& c) {
       c.add_tools("{}");
       c.add_tools("\"get_weather\"");
     },
     "chat.tools[1]", "not a JSON object"},
    {"texts_in_all",
     [](auto& c) {
       for (int i = 0; i < 5; ++i) c.add_tools(std::string(1 << 20, ' '));
     },
     "chat", "at most 4194304"},
    {"argument_reserved", [](auto& c) { Argument(c, "messages").set_bool_value(true); },
     "chat.template_arguments.messages", "by a field of its own"},
    {"argument_tools", [](auto& c) { Argument(c, "tools").set_bool_value(true); }, "chat.template_arguments.tools",
     "by a field of its own"},
    {"argument_infinite", [](auto& c) { Argument(c, "a").set_number_value(std::numeric_limits<double>::infinity()); },
     "chat.template_arguments.a", "not finite"},
    {"argument_not_set", [](auto& c) { Argument(c, "a").mutable_list_value()->add_values(); },
     "chat.template_arguments.a[0]", "not set"},
    {"argument_not_set_inside",
     [](auto& c) { (*Argument(c, "a").mutable_struct_value()->mutable_fields())["b"].Clear(); },
     "chat.template_arguments.a.b", "not set"},
    {"arguments_many",
     [](auto& c) {
       for (int i = 0; i < 1001; ++i) Argument(c, absl::StrCat("a", i)).set_bool_value(true);
     },
     "chat.template_arguments", "more than 1000 members"},
    {"both_ends",
     [](auto& c) {
       c.set_add_generation_prompt(true);
       c.set_continue_final_message(true);
     },
     "chat.add_generation_prompt", "exclude each other"},
    {"not_of_this_template", [](auto& c) { c.add_tools("{}"); }, "chat.messages", "the byte model's template"},
};

TEST(ChatRequests, BadOnesNameTheField) {
  TestServer server;
  for (const BadChat& bad : kBadChats) {
    SCOPED_TRACE(bad.name);
    v1::GenerateRequest request = TextRequest("", 4);
    AddMessage(*request.mutable_chat(), "user", "hello");
    bad.spoil(*request.mutable_chat());
    const Generated result = Generate(server.inference(), request);
    EXPECT_EQ(result.failure.code, grpc::INVALID_ARGUMENT) << result.failure.message;
    EXPECT_EQ(result.failure.reason, "INVALID_FIELD");
    EXPECT_EQ(result.failure.field, bad.field);
    EXPECT_THAT(result.failure.message, HasSubstr(bad.says));
    EXPECT_LE(result.failure.message.size(), 1024u);

    v1::TokenizeRequest tokenize;
    *tokenize.mutable_chat() = request.chat();
    v1::TokenizeResponse response;
    grpc::ClientContext context;
    const Failure failure = Explain(server.inference().Tokenize(&context, tokenize, &response), context);
    EXPECT_EQ(failure.field, bad.field);
  }
  EXPECT_EQ(server.Idle().pages_used, 0);
}

TEST(ChatRequests, AppendNamesTheFieldToo) {
  TestServer server;
  grpc::ClientContext context;
  auto stream = server.inference().Decode(&context);
  v1::DecodeRequest request;
  request.mutable_open();
  ASSERT_TRUE(stream->Write(request));
  AddMessage(*request.mutable_append()->mutable_chat(), "user", "hello");
  request.mutable_append()->mutable_chat()->add_tools("[]");
  ASSERT_TRUE(stream->Write(request));
  stream->WritesDone();
  v1::DecodeResponse response;
  ASSERT_TRUE(stream->Read(&response));
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.error().reason(), "INVALID_FIELD");
  EXPECT_EQ(response.error().field(), "append.chat.tools[0]");
  EXPECT_TRUE(stream->Finish().ok());
}

// What a template that writes everything makes of `chat`.
std::string Rendered(const v1::ChatPrompt& chat) {
  const auto chat_template = CreateJinjaTemplate(
      "{{ messages | tojson }}|{{ tools | tojson }}|{{ add_generation_prompt }}|{{ extra | tojson }}", {});
  EXPECT_TRUE(chat_template.ok()) << chat_template.status();
  EXPECT_TRUE(CheckChatSizes(chat, "chat").ok());
  const auto converted = ConvertChat(chat, "chat");
  EXPECT_TRUE(converted.ok()) << converted.status();
  const auto text = (*chat_template)->Render(converted->messages, converted->options);
  EXPECT_TRUE(text.ok()) << text.status();
  return *text;
}

TEST(ChatRequests, TemplateSeesEverythingInOrder) {
  v1::ChatPrompt chat;
  v1::ChatMessage& assistant = AddMessage(chat, "assistant", "");
  AddCall(chat, "get_weather", R"({"z": 2, "a": [1.5, "é"]})").set_id("c1");
  AddCall(chat, "now", "");
  assistant.set_name("bot");
  assistant.set_reasoning_content("hm");
  assistant.set_fields(R"({"content": null, "weight": 0})");
  AddMessage(chat, "tool", "21").set_tool_call_id("c1");
  chat.add_tools(R"({"type": "function", "function": {"name": "now", "parameters": {"b": 1, "a": 2.0}}})");
  chat.add_tools("{}");
  google::protobuf::Struct& extra = *Argument(chat, "extra").mutable_struct_value();
  (*extra.mutable_fields())["whole"].set_number_value(3);
  (*extra.mutable_fields())["half"].set_number_value(0.5);
  (*extra.mutable_fields())["large"].set_number_value(1e300);
  (*extra.mutable_fields())["none"].set_null_value(google::protobuf::NULL_VALUE);
  auto& list = *(*extra.mutable_fields())["list"].mutable_list_value();
  list.add_values()->set_bool_value(false);
  list.add_values()->set_string_value("\"");
  EXPECT_EQ(Rendered(chat),
            R"([{"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": )"
            R"({"name": "get_weather", "arguments": {"z": 2, "a": [1.5, "é"]}}}, {"type": "function", "function": )"
            R"({"name": "now", "arguments": {}}}], "name": "bot", "reasoning_content": "hm", "weight": 0}, )"
            R"({"role": "tool", "content": "21", "tool_call_id": "c1"}]|)"
            R"([{"type": "function", "function": {"name": "now", "parameters": {"b": 1, "a": 2.0}}}, {}]|True|)"
            R"({"half": 0.5, "large": 1e+300, "list": [false, "\""], "none": null, "whole": 3})");
}

TEST(ChatRequests, GenerationPromptGoesWithTheEndOfTheConversation) {
  v1::ChatPrompt chat;
  AddMessage(chat, "user", "x");
  const auto adds = [&] {
    const auto converted = ConvertChat(chat, "chat");
    EXPECT_TRUE(converted.ok()) << converted.status();
    return converted->options.add_generation_prompt;
  };
  EXPECT_TRUE(adds());
  chat.set_continue_final_message(true);
  EXPECT_FALSE(adds());
  EXPECT_TRUE(ConvertChat(chat, "chat")->options.continue_final_message);
  chat.clear_continue_final_message();
  chat.set_add_generation_prompt(false);
  EXPECT_FALSE(adds());
}

}  // namespace
}  // namespace megakernel::testing
