#include "engine/model/hf_text_rules.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "engine/model/hf_steps.h"

namespace megakernel {
namespace {

using nlohmann::json;

void ReadSplit(Step& step, PreTokenizer& rules) {
  const json* pattern = step.fields().Find("pattern");
  const bool is_regex = pattern != nullptr && pattern->is_object() && pattern->size() == 1 &&
                        pattern->contains("Regex") && pattern->at("Regex").is_string();
  if (!is_regex) return step.fields().Fail("Split needs a pattern of the form {\"Regex\": text}");
  step.Require("invert", false, false);
  if (step.fields().String("behavior") != "Isolated")
    return step.fields().Fail("only Split with behavior Isolated is supported");
  if (!FindWordStyle(pattern->at("Regex").get_ref<const std::string&>(), rules)) {
    step.fields().Fail("the regular expression of Split is none of those of GPT-2, Llama 3 and Qwen");
  }
}

void ReadPreTokenizer(JsonFields& file, PreTokenizer& rules) {
  constexpr const char* kPart = "pre_tokenizer";
  bool has_words = false, has_bytes = false;
  for (const json* value : Steps(file, kPart, "pretokenizers")) {
    Step step(file, kPart, *value);
    if (has_bytes) return step.fields().Fail("nothing may follow ByteLevel");
    if (step.type() == "Digits" && !has_words) {
      step.Require("individual_digits", true, false);
      rules.isolate_numbers = true;
    } else if (step.type() == "Split" && !has_words) {
      ReadSplit(step, rules);
      has_words = true;
    } else if (step.type() == "ByteLevel") {
      step.Require("add_prefix_space", false, true);
      const bool use_regex = step.fields().Bool("use_regex", true);
      if (use_regex == has_words) {
        return step.fields().Fail(has_words ? "ByteLevel with use_regex true after Split is not supported"
                                            : "ByteLevel with use_regex false needs a Split before it");
      }
      has_bytes = true;
    } else {
      step.Refuse("Digits, then Split, then ByteLevel");
    }
  }
  if (file.ok() && !has_bytes)
    file.Fail("pre_tokenizer: only byte-level tokenizers are supported, and there is no ByteLevel");
}

}  // namespace

PreTokenizer ReadTextRules(JsonFields& file) {
  PreTokenizer rules;
  for (const json* value : Steps(file, "normalizer", "normalizers")) {
    Step step(file, "normalizer", *value);
    if (step.type() == "NFC") {
      rules.nfc = true;
    } else {
      step.Refuse("NFC");
    }
  }
  if (file.ok()) ReadPreTokenizer(file, rules);
  return rules;
}

void CheckDecoder(JsonFields& file) {
  bool byte_level = false;
  for (const json* value : Steps(file, "decoder", "decoders")) {
    Step step(file, "decoder", *value);
    if (step.type() == "ByteLevel") {
      byte_level = true;
    } else {
      step.Refuse("ByteLevel");
    }
  }
  if (file.ok() && !byte_level) file.Fail("decoder: ByteLevel is missing");
}

namespace {

// The id of a special token that a template names.
std::int32_t TemplateToken(Step& step, const std::string& name) {
  const json* tokens = step.fields().Find("special_tokens");
  if (tokens != nullptr && tokens->is_object() && tokens->contains(name) && tokens->at(name).is_object()) {
    const json& entry = tokens->at(name);
    const auto ids = entry.find("ids");
    if (ids != entry.end() && ids->is_array() && ids->size() == 1 && ids->front().is_number_unsigned() &&
        ids->front() <= INT32_MAX) {
      return ids->front().get<std::int32_t>();
    }
  }
  step.fields().Fail("a template names a token that special_tokens does not give one id for");
  return -1;
}

std::int32_t ReadTemplate(Step& step) {
  const json* single = step.fields().Find("single");
  if (single == nullptr || !single->is_array() || single->empty() || single->size() > 2) {
    step.fields().Fail("TemplateProcessing needs a list \"single\" of at most one token and then the text");
    return -1;
  }
  const json& text = single->back();
  if (!text.is_object() || !text.contains("Sequence")) {
    step.fields().Fail("tokens after the text are not supported");
    return -1;
  }
  if (single->size() == 1) return -1;
  const json& first = single->front();
  const auto token = first.is_object() ? first.find("SpecialToken") : first.end();
  if (!first.is_object() || token == first.end() || !token->is_object()) {
    step.fields().Fail("the template is not a token and then the text");
    return -1;
  }
  JsonFields fields(*token, step.fields().where());
  const std::string name = fields.String("id");
  if (!fields.ok()) step.fields().Fail("the template names a token without an id");
  return fields.ok() ? TemplateToken(step, name) : -1;
}

}  // namespace

std::int32_t ReadFirstToken(JsonFields& file) {
  std::int32_t token = -1;
  for (const json* value : Steps(file, "post_processor", "processors")) {
    Step step(file, "post_processor", *value);
    if (step.type() == "TemplateProcessing") {
      token = ReadTemplate(step);
    } else if (step.type() != "ByteLevel") {  // ByteLevel changes offsets only
      step.Refuse("ByteLevel, TemplateProcessing");
    }
  }
  return token;
}

}  // namespace megakernel
