// The file of --auth-tokens: ways to get it wrong.
#include "server/token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace megakernel::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct BadFile {
  const char* text;
  std::vector<std::string> named;
};

const BadFile kBadFiles[] = {
    {"", {"tokens.json"}},
    {"{\"tokens\": [\n  {\"token\": \"hush-hush-hush-hush\" oops", {"line 2"}},
    {"[]", {"object"}},
    {"{}", {"tokens"}},
    {R"({"tokens": []})", {"tokens", "at least one"}},
    {R"({"tokens": 5})", {"tokens"}},
    {R"({"tokens": [5]})", {"tokens[0]", "object"}},
    {R"({"tokens": [{"tenant": "a", "scopes": ["infer"], "token": "hush-hush-hush-hush"}], "users": 1})", {"users"}},
    {R"({"tokens": [{"tenant": "a", "scopes": ["infer"], "token": "hush-hush-hush-hush", "scope": 1}]})",
     {"tokens[0].scope", "unknown key"}},
    {R"({"tokens": [{"scopes": ["infer"], "token": "hush-hush-hush-hush"}]})", {"tokens[0].tenant"}},
    {R"({"tokens": [{"tenant": "", "scopes": ["infer"], "token": "hush-hush-hush-hush"}]})", {"tokens[0].tenant"}},
    {R"({"tokens": [{"tenant": "a b", "scopes": ["infer"], "token": "hush-hush-hush-hush"}]})", {"tokens[0].tenant"}},
    {R"({"tokens": [{"tenant": "a", "token": "hush-hush-hush-hush"}]})", {"tokens[0].scopes"}},
    {R"({"tokens": [{"tenant": "a", "scopes": [], "token": "hush-hush-hush-hush"}]})", {"tokens[0].scopes"}},
    {R"({"tokens": [{"tenant": "a", "scopes": ["infer", "root"], "token": "hush-hush-hush-hush"}]})",
     {"tokens[0].scopes[1]", "admin"}},
    {R"({"tokens": [{"tenant": "a", "scopes": ["infer"]}]})", {"tokens[0]", "token or sha256"}},
    {R"({"tokens": [{"tenant": "a", "scopes": ["infer"], "token": "hush-hush-hush-hush", "sha256": "00"}]})",
     {"tokens[0]", "not both"}},
    {R"({"tokens": [{"tenant": "a", "scopes": ["infer"], "token": "hush-hush"}]})", {"tokens[0].token", "16"}},
    {R"({"tokens": [{"tenant": "a", "scopes": ["infer"], "token": "hush hush hush hush"}]})", {"tokens[0].token"}},
    {R"({"tokens": [{"tenant": "a", "scopes": ["infer"], "sha256": "hush-hush-hush-hush"}]})", {"tokens[0].sha256"}},
    {R"({"tokens": [{"tenant": "a", "scopes": ["infer"], "token": "hush-hush-hush-hush"},
                    {"tenant": "b", "scopes": ["infer"], "token": "hush-hush-hush-hush"}]})",
     {"tokens[1]", "tokens[0]"}},
    {R"({"tokens": [{"tenant": "a", "scopes": ["infer"], "token": "hush-hush-hush-hush"}], "tenants": {"b": {}}})",
     {"tenants.b"}},
    {R"({"tokens": [{"tenant": "a", "scopes": ["infer"], "token": "hush-hush-hush-hush"}],
         "tenants": {"a": {"pages": 1}}})",
     {"tenants.a.pages", "kv_pages"}},
    {R"({"tokens": [{"tenant": "a", "scopes": ["infer"], "token": "hush-hush-hush-hush"}],
         "tenants": {"a": {"queued_requests": 0}}})",
     {"tenants.a.queued_requests", "[1, "}},
    {R"({"tokens": [{"tenant": "a", "scopes": ["infer"], "token": "hush-hush-hush-hush"}],
         "tenants": {"a": {"sessions": 1.5}}})",
     {"tenants.a.sessions"}},
    {R"({"tokens": [{"tenant": "a", "scopes": ["infer"], "token": "hush-hush-hush-hush"}],
         "tenants": {"a": {"tokens_per_second": -1}}})",
     {"tenants.a.tokens_per_second"}},
    {R"({"tokens": [{"tenant": "a", "scopes": ["infer"], "token": "hush-hush-hush-hush"}],
         "tenants": {"a": {"burst_tokens": 10}}})",
     {"tenants.a.burst_tokens", "tokens_per_second"}},
    {R"({"tokens": [{"tenant": "a", "scopes": ["infer"], "token": "hush-hush-hush-hush", "tenant": "b"}]})", {"twice"}},
};

TEST(TokenFile, ErrorsNameEntryAndFieldAndQuoteNoToken) {
  for (const BadFile& bad : kBadFiles) {
    const auto tokens = ParseTokenFile(bad.text, "tokens.json");
    ASSERT_FALSE(tokens.ok()) << bad.text;
    const std::string message(tokens.status().message());
    EXPECT_THAT(message, HasSubstr("tokens.json"));
    for (const std::string& named : bad.named) EXPECT_THAT(message, HasSubstr(named));
    EXPECT_THAT(message, Not(HasSubstr("hush")));
  }
}

}  // namespace
}  // namespace megakernel::testing
