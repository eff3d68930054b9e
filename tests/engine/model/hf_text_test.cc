// tokenizer.json, tokenizer_config.json, chat_template.jinja and generation_config.json of a model directory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/model/hf_tokenizer.h"
#include "engine/model/model.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"
#include "tests/engine/model/refusal.h"
#include "tests/engine/model/safetensors_writer.h"
#include "tests/support/temp_checkpoint.h"

namespace megakernel::test {
namespace {

using nlohmann::json;
using testing::ElementsAre;

constexpr std::int32_t kVocab = 1024;  // of qwen3-tiny

// tests/engine/text/goldens/tokenizers: Llama-3-style rules, 900 tokens and 13 added ones.
json MadeTokenizer() {
  return json::parse(ReadFile(MEGAKERNEL_MADE_TOKENIZER));
}

class HfTextTest : public testing::Test {
 protected:
  HfTextTest() : checkpoint_("qwen3-tiny", 3) {
    Write("tokenizer.json", MadeTokenizer().dump());
    Write("tokenizer_config.json",
          R"({"bos_token": {"content": "<|begin_of_text|>"}, "eos_token": "<|eot_id|>", "pad_token": null,
              "chat_template": "{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }}{{ eos_token }}{% endfor %}"})");
  }
  void Write(const std::string& name, const std::string& text) { WriteFile(checkpoint_.path() + "/" + name, text); }
  absl::StatusOr<std::unique_ptr<Model>> Load() const { return LoadModel(checkpoint_.path()); }
  // Writes the file, and what names it in the message is its own name.
  void ExpectRefused(const std::string& name, const std::string& text, const std::string& fault) {
    Write(name, text);
    ExpectRefusal([this] { return Load(); }, checkpoint_.path() + "/" + name + ": ", fault);
  }

  const TempCheckpoint checkpoint_;
};

TEST_F(HfTextTest, ADirectoryIsACompleteModel) {
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE((*model)->has_tokenizer());
  EXPECT_EQ((*model)->tokenizer().vocab(), kVocab);
  EXPECT_TRUE((*model)->config().add_bos);
  const TokenId bos = (*model)->config().bos_token;
  EXPECT_EQ((*model)->tokenizer().TokenBytes(bos, false), "<|begin_of_text|>");
  EXPECT_TRUE((*model)->tokenizer().IsSpecial(bos));
  EXPECT_EQ((*model)->tokenizer().TokenBytes(kVocab - 1, false), "") << "a row without a token has no text";
  ASSERT_NE((*model)->chat_template(), nullptr);
  const auto prompt = (*model)->chat_template()->Render({{"user", "Hi the"}}, false);
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_EQ(*prompt, "<|begin_of_text|>user:Hi the<|eot_id|>");
  const auto tokens = (*model)->tokenizer().Encode(*prompt, true);
  EXPECT_EQ(tokens.front(), bos);
  EXPECT_EQ((*model)->tokenizer().Decode(tokens, true), "user:Hi the");
}

TEST_F(HfTextTest, TheIdentityKnowsTheTokenizer) {
  const std::string with = (*Load())->identity();
  json changed = MadeTokenizer();
  changed["model"]["ignore_merges"] = false;
  Write("tokenizer.json", changed.dump());
  EXPECT_NE((*Load())->identity(), with);
}

TEST_F(HfTextTest, TemplateFileComesFirstThenTheListsDefault) {
  Write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D{{ bos_token is defined }}"}]})");
  EXPECT_EQ(*(*Load())->chat_template()->Render({}, false), "DFalse");
  Write("chat_template.jinja", "F");
  EXPECT_EQ(*(*Load())->chat_template()->Render({}, false), "F");
}

TEST_F(HfTextTest, NoTemplateIsAModelWithoutOne) {
  Write("tokenizer_config.json", "{}");
  EXPECT_EQ((*Load())->chat_template(), nullptr);
}

TEST_F(HfTextTest, SamplingDefaultsOfGenerationConfig) {
  Write("generation_config.json",
        R"({"do_sample": true, "eos_token_id": [2, 5], "temperature": 0.6, "top_k": 20, "top_p": 0.95})");
  const auto model = Load();
  ASSERT_TRUE(model.ok()) << model.status();
  const SamplingDefaults& sampling = (*model)->config().sampling;
  EXPECT_EQ(sampling.temperature, 0.6f);
  EXPECT_EQ(sampling.top_k, 20);
  EXPECT_EQ(sampling.top_p, 0.95f);
  EXPECT_EQ(sampling.min_p, 0.0f);
  EXPECT_EQ(sampling.repetition_penalty, 1.0f);
  EXPECT_THAT((*model)->config().eos_tokens, ElementsAre(2, 5));
}

TEST_F(HfTextTest, BadFilesBesideTheTokenizer) {
  ExpectRefused("generation_config.json", R"({"temperature": -1})", "temperature is -1");
  ExpectRefused("generation_config.json", R"({"top_k": 1.5})", "top_k is 1.5");
  ExpectRefused("generation_config.json", R"({"top_p": 2})", "top_p is 2");
  ExpectRefused("generation_config.json", R"({"min_p": "x"})", "min_p is \"x\"");
  ExpectRefused("generation_config.json", R"({"repetition_penalty": 0})", "repetition_penalty");
  Write("generation_config.json", "{}");
  ExpectRefused("tokenizer_config.json", "[]", "tokenizer_config.json: the JSON text is not an object");
  ExpectRefused("tokenizer_config.json", R"({"bos_token": 7})", "bos_token is 7");
  ExpectRefused("tokenizer_config.json", R"({"bos_token": {}})", "bos_token: content");
  ExpectRefused("tokenizer_config.json", R"({"chat_template": [{"name": "x", "template": ""}]})",
                "without an entry \"default\"");
  ExpectRefused("tokenizer_config.json", R"({"chat_template": [7]})", "list of objects");
  ExpectRefused("tokenizer_config.json", R"({"chat_template": 7})", "chat_template is 7");
  ExpectRefused("tokenizer_config.json", R"({"chat_template": "a\n{{ x | nope }}"})",
                "tokenizer_config.json: chat_template: line 2: the filter nope");
  ExpectRefused("chat_template.jinja", "{% if %}", "chat_template.jinja: line 1");
}

struct BadTokenizer {
  const char* name;
  void (*spoil)(json& file);
  const char* message;
};

class BadTokenizerTest : public testing::TestWithParam<BadTokenizer> {};

TEST_P(BadTokenizerTest, IsRefusedByName) {
  json file = MadeTokenizer();
  GetParam().spoil(file);
  const std::string text = file.dump(), path = "dir/tokenizer.json";
  const std::string message =
      ExpectRefusal([&] { return ParseHfTokenizer(text, path, kVocab); }, path, GetParam().message);
  EXPECT_THAT(message, testing::StartsWith(path + ": "));
}

json& Added(json& file, int i) {
  return file["added_tokens"][static_cast<std::size_t>(i)];
}
json& PreStep(json& file, int i) {
  return file["pre_tokenizer"]["pretokenizers"][static_cast<std::size_t>(i)];
}
json& Template(json& file) {
  return file["post_processor"]["processors"][1];
}

INSTANTIATE_TEST_SUITE_P(
    Cases, BadTokenizerTest,
    testing::Values(
        BadTokenizer{"NoModel", [](json& f) { f.erase("model"); }, "model is missing"},
        BadTokenizer{"Unigram", [](json& f) { f["model"]["type"] = "Unigram"; }, "model: type \"Unigram\""},
        BadTokenizer{"ByteFallback", [](json& f) { f["model"]["byte_fallback"] = true; },
                     "normalizer: with byte_fallback the Replace of spaces"},
        BadTokenizer{"Dropout", [](json& f) { f["model"]["dropout"] = 0.1; }, "dropout"},
        BadTokenizer{"Suffix", [](json& f) { f["model"]["end_of_word_suffix"] = "</w>"; }, "end_of_word_suffix"},
        BadTokenizer{"VocabList", [](json& f) { f["model"]["vocab"] = json::array(); },
                     "vocab is missing or not an object"},
        BadTokenizer{"IdTooLarge", [](json& f) { f["model"]["vocab"]["!"] = kVocab; }, "is not in 0 to 1023"},
        BadTokenizer{"IdNegative", [](json& f) { f["model"]["vocab"]["!"] = -1; }, "is not in 0 to 1023"},
        BadTokenizer{"IdText", [](json& f) { f["model"]["vocab"]["!"] = "0"; }, "is not in 0 to 1023"},
        BadTokenizer{"IdTwice", [](json& f) { f["model"]["vocab"]["!"] = 5; }, "two tokens have the id 5"},
        BadTokenizer{"MergesObject", [](json& f) { f["model"]["merges"] = json::object(); },
                     "merges is missing or not a list"},
        BadTokenizer{"MergeNumber", [](json& f) { f["model"]["merges"][3] = 7; }, "merge 3 is neither"},
        BadTokenizer{"MergeTriple",
                     [](json& f) {
                       f["model"]["merges"][3] = {"a", "b", "c"};
                     },
                     "merge 3 is neither"},
        BadTokenizer{"MergeUnknown", [](json& f) { f["model"]["merges"][3] = "qq zz"; }, "merge 3"},
        BadTokenizer{"MergeTwice", [](json& f) { f["model"]["merges"][3] = f["model"]["merges"][2]; }, "merge 3"},
        BadTokenizer{"UnkWithHoles",
                     [](json& f) {
                       f["model"]["unk_token"] = "u";
                       f["model"]["vocab"].erase("!");
                     },
                     "unk_token"},
        BadTokenizer{"AddedObject", [](json& f) { f["added_tokens"] = json::object(); }, "added_tokens must be a list"},
        BadTokenizer{"AddedNumber", [](json& f) { Added(f, 1) = 7; }, "added_tokens[1] must be an object"},
        BadTokenizer{"AddedId", [](json& f) { Added(f, 1)["id"] = 5000; }, "added_tokens[1]: id is 5000"},
        BadTokenizer{"AddedNoId", [](json& f) { Added(f, 1).erase("id"); }, "added_tokens[1]: id is missing"},
        BadTokenizer{"AddedEmpty", [](json& f) { Added(f, 1)["content"] = ""; }, "added_tokens[1]: content is empty"},
        BadTokenizer{"AddedTaken", [](json& f) { Added(f, 1)["id"] = 5; }, "id 5 belongs to another token"},
        BadTokenizer{"AddedTwice", [](json& f) { Added(f, 1) = Added(f, 0); }, "is listed twice"},
        BadTokenizer{"AddedFlag", [](json& f) { Added(f, 1)["lstrip"] = 1; }, "lstrip is 1"},
        BadTokenizer{"AddedLong", [](json& f) { Added(f, 1)["content"] = std::string(300, 'x'); }, "has 300 bytes"},
        BadTokenizer{"Normalizer",
                     [](json& f) {
                       f["normalizer"] = {{"type", "Lowercase"}};
                     },
                     "normalizer: type \"Lowercase\""},
        BadTokenizer{"NormalizerText", [](json& f) { f["normalizer"] = "NFC"; }, "normalizer must be an object"},
        BadTokenizer{"NormalizerSequence",
                     [](json& f) {
                       f["normalizer"] = {{"type", "Sequence"}};
                     },
                     "needs the list normalizers"},
        BadTokenizer{"NoPreTokenizer", [](json& f) { f["pre_tokenizer"] = nullptr; }, "there is no ByteLevel"},
        BadTokenizer{"Metaspace",
                     [](json& f) {
                       f["pre_tokenizer"] = {{"type", "Metaspace"}};
                     },
                     "type \"Metaspace\""},
        BadTokenizer{"Regex", [](json& f) { PreStep(f, 0)["pattern"]["Regex"] = "x+"; }, "regular expression of Split"},
        BadTokenizer{"Pattern",
                     [](json& f) {
                       PreStep(f, 0)["pattern"] = {{"String", " "}};
                     },
                     "Split needs a pattern"},
        BadTokenizer{"Behavior", [](json& f) { PreStep(f, 0)["behavior"] = "Removed"; }, "behavior Isolated"},
        BadTokenizer{"Invert", [](json& f) { PreStep(f, 0)["invert"] = true; }, "invert true"},
        BadTokenizer{"PrefixSpace", [](json& f) { PreStep(f, 1)["add_prefix_space"] = true; }, "add_prefix_space true"},
        BadTokenizer{"TwoRegexes", [](json& f) { PreStep(f, 1)["use_regex"] = true; }, "use_regex true after Split"},
        BadTokenizer{"NoWords", [](json& f) { f["pre_tokenizer"] = PreStep(f, 1); }, "needs a Split before it"},
        BadTokenizer{"BytesFirst", [](json& f) { std::swap(PreStep(f, 0), PreStep(f, 1)); }, "pre_tokenizer"},
        BadTokenizer{"DigitGroups",
                     [](json& f) {
                       PreStep(f, 0) = {{"type", "Digits"}, {"individual_digits", false}};
                     },
                     "individual_digits false"},
        BadTokenizer{"Decoder",
                     [](json& f) {
                       f["decoder"] = {{"type", "Metaspace"}};
                     },
                     "decoder: type \"Metaspace\""},
        BadTokenizer{"NoDecoder", [](json& f) { f["decoder"] = nullptr; }, "decoder: ByteLevel is missing"},
        BadTokenizer{"Bert",
                     [](json& f) {
                       f["post_processor"] = {{"type", "BertProcessing"}};
                     },
                     "BertProcessing"},
        BadTokenizer{"EndToken", [](json& f) { std::swap(Template(f)["single"][0], Template(f)["single"][1]); },
                     "tokens after the text"},
        BadTokenizer{"TemplateName", [](json& f) { Template(f)["special_tokens"] = json::object(); }, "special_tokens"},
        BadTokenizer{"TemplateId", [](json& f) { Template(f)["special_tokens"].front()["ids"][0] = 4000; },
                     "token 4000 is not in"},
        BadTokenizer{"TemplateShape", [](json& f) { Template(f)["single"] = 7; }, "TemplateProcessing needs"}),
    [](const auto& info) { return info.param.name; });

// tests/engine/text/goldens/tokenizers: 955 tokens with byte_fallback.
class BadPiecesTest : public testing::TestWithParam<BadTokenizer> {};

TEST_P(BadPiecesTest, IsRefusedByName) {
  json file = json::parse(ReadFile(MEGAKERNEL_MADE_PIECES));
  ASSERT_TRUE(ParseHfTokenizer(file.dump(), "t", kVocab).ok());
  GetParam().spoil(file);
  const std::string text = file.dump();
  ExpectRefusal([&] { return ParseHfTokenizer(text, "t", kVocab); }, "t: ", GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, BadPiecesTest,
    testing::Values(BadTokenizer{"Lowercase",
                                 [](json& f) {
                                   f["normalizer"] = {{"type", "Lowercase"}};
                                 },
                                 "type \"Lowercase\""},
                    BadTokenizer{"PrependOther", [](json& f) { f["normalizer"]["normalizers"][0]["prepend"] = "x"; },
                                 "only Prepend of U+2581"},
                    BadTokenizer{"PrependLast",
                                 [](json& f) {
                                   json& list = f["normalizer"]["normalizers"];
                                   std::swap(list[0], list[1]);
                                 },
                                 "type \"Prepend\" is not supported here (with byte_fallback"},
                    BadTokenizer{"ReplaceOther", [](json& f) { f["normalizer"]["normalizers"][1]["content"] = "_"; },
                                 "normalizer: only Replace of"},
                    BadTokenizer{"ReplaceRegex",
                                 [](json& f) {
                                   f["normalizer"]["normalizers"][1]["pattern"] = {{"Regex", " "}};
                                 },
                                 "normalizer: only Replace of"},
                    BadTokenizer{"PreTokenizer",
                                 [](json& f) {
                                   f["pre_tokenizer"] = {{"type", "Whitespace"}};
                                 },
                                 "pre_tokenizer: none is supported with byte_fallback"},
                    BadTokenizer{"DecoderShort",
                                 [](json& f) {
                                   f["decoder"] = {{"type", "ByteFallback"}};
                                 },
                                 "with byte_fallback: Replace, ByteFallback, Fuse"},
                    BadTokenizer{"DecoderStrip", [](json& f) { f["decoder"]["decoders"][3]["start"] = 2; },
                                 "only Strip of one space"},
                    BadTokenizer{"ByteMissing",
                                 [](json& f) {
                                   f["model"]["vocab"].erase("<0x41>");
                                   f["model"]["vocab"]["<0x41"] = 68;
                                 },
                                 "there is no token for byte 65"},
                    BadTokenizer{"IgnoreMerges", [](json& f) { f["model"]["ignore_merges"] = true; },
                                 "ignore_merges is not supported with byte_fallback"},
                    BadTokenizer{"NotATruthValue", [](json& f) { f["model"]["byte_fallback"] = "yes"; },
                                 "byte_fallback"}),
    [](const auto& info) { return info.param.name; });

TEST(HfTokenizerTest, TextThatIsNoTokenizer) {
  const std::pair<std::string, const char*> texts[] = {
      {"", "not valid JSON"},
      {"[]", "not an object"},
      {R"({"model": {}, "model": {}})", "appears twice"},
      {R"({"model": {"vocab": {"a": 1, "a": 2}}})", "\"a\" appears twice"},
      {std::string(100, '[') + std::string(100, ']'), "nests deeper"}};
  for (const auto& [text, fault] : texts) {
    ExpectRefusal([&, &text = text] { return ParseHfTokenizer(text, "t", kVocab); }, "t: ", fault);
  }
}

// Small files that would become large in memory, or take long: refused in less than a second of processor time each.
TEST(HfTokenizerTest, JsonBombs) {
  const auto repeated = [](const std::string& open, const std::string& item, std::size_t bytes,
                           const std::string& close) {
    std::string text = open;
    while (text.size() < bytes) text += item;
    return text + close;
  };
  std::string keys = "{";
  for (int i = 0; keys.size() < (26u << 20); ++i) keys.append("\"").append(std::to_string(i)).append("\":0,");
  const std::pair<std::string, const char*> bombs[] = {
      {repeated("{\"a\":[", "[],", 20 << 20, "0]}"), "JSON of more than 1250000 values"},
      {repeated("[", "0,", 20 << 20, "0]"), "JSON of more than 1250000 values"},
      {repeated("", "[", 20 << 20, ""), "JSON nests deeper than the limit of 32 levels"},
      {repeated("", "{\"a\":", 20 << 20, ""), "JSON nests deeper than the limit of 32 levels"},
      {repeated("{\"a\":\"", "xxxxxxxx", 20 << 20, "\"}"), "model is missing"},
      {repeated("{\"a\":\"", "\\u00e9", 20 << 20, ""), "not valid JSON"},
      {repeated("{\"a\":1", "0000000000", 20 << 20, "}"), "not valid JSON"},
      {repeated("{", "\"a\":0,", 20 << 20, "\"b\":0}"), "the key \"a\" appears twice"},
      {keys, "JSON of more than 1250000 values"}};
  for (const auto& [text, message] : bombs) {
    ExpectRefusal([&, &text = text] { return ParseHfTokenizer(text, "t", kVocab); }, "t: ", message);
  }
}

}  // namespace
}  // namespace megakernel::test
