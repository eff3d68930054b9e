#include "engine/model/hf_chat.h"

#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/model/hf_shards.h"
#include "engine/model/json_text.h"
#include "engine/text/jinja_template.h"

namespace megakernel {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaxTextBytes = 4 << 20;
constexpr char kDefaultName[] = "default";

// A special token is its text, or an object that holds it; "" when it is absent.
std::string TokenText(JsonFields& fields, const char* key) {
  const json* value = fields.Find(key);
  if (value == nullptr || !value->is_object()) return fields.String(key, "");
  JsonFields token(*value, absl::StrCat(fields.where(), ": ", key));
  std::string text = token.String("content");
  if (!token.ok()) fields.Fail(absl::StrCat(key, ": content is missing or not text"));
  return text;
}

// The template's text; "" when there is none.
std::string TemplateText(JsonFields& fields) {
  const json* value = fields.Find("chat_template");
  if (value == nullptr || !value->is_array()) return fields.String("chat_template", "");
  for (const json& entry : *value) {
    if (!entry.is_object()) {
      fields.Fail("chat_template must be text or a list of objects");
      return "";
    }
    JsonFields named(entry, absl::StrCat(fields.where(), ": chat_template"));
    if (named.String("name") == kDefaultName) {
      std::string text = named.String("template");
      if (!named.ok()) fields.Fail("chat_template: the entry \"default\" has no text");
      return text;
    }
  }
  fields.Fail("chat_template is a list without an entry \"default\"");
  return "";
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> LoadHfChatTemplate(const std::string& directory) {
  const std::string config_path = directory + "/tokenizer_config.json";
  const std::string template_path = directory + "/chat_template.jinja";
  TemplateTokens tokens;
  std::string source;
  std::string where = config_path + ": chat_template";
  const auto config = ReadTextFile(config_path, kMaxTextBytes);
  if (config.ok()) {
    MK_ASSIGN_OR_RETURN(const json root, ParseJsonObject(*config, config_path));
    JsonFields fields(root, config_path);
    tokens = {.bos_token = TokenText(fields, "bos_token"),
              .eos_token = TokenText(fields, "eos_token"),
              .unk_token = TokenText(fields, "unk_token"),
              .pad_token = TokenText(fields, "pad_token")};
    source = TemplateText(fields);
    MK_RETURN_IF_ERROR(fields.status());
  } else if (!absl::IsNotFound(config.status())) {
    return config.status();
  }
  auto file = ReadTextFile(template_path, kMaxTextBytes);
  if (file.ok()) {
    source = *std::move(file);
    where = template_path;
  } else if (!absl::IsNotFound(file.status())) {
    return file.status();
  }
  if (source.empty()) return std::unique_ptr<ChatTemplate>();
  auto compiled = CreateJinjaTemplate(source, std::move(tokens));
  if (!compiled.ok()) return absl::InvalidArgumentError(absl::StrCat(where, ": ", compiled.status().message()));
  return compiled;
}

}  // namespace megakernel
