#include <string>

#include "absl/strings/str_cat.h"
#include "engine/model/hf_steps.h"
#include "engine/model/hf_text_rules.h"
#include "engine/text/piece_tokenizer.h"

namespace megakernel {
namespace {

using nlohmann::json;

// Replace with a plain text as its pattern, from `from` to `to`.
void RequireReplace(Step& step, std::string_view from, std::string_view to) {
  const json* pattern = step.fields().Find("pattern");
  const bool is_text = pattern != nullptr && pattern->is_object() && pattern->size() == 1 &&
                       pattern->contains("String") && pattern->at("String").is_string();
  if (!is_text || pattern->at("String") != std::string(from) || step.fields().String("content") != to) {
    step.fields().Fail(absl::StrCat("only Replace of \"", std::string(from), "\" by \"", std::string(to),
                                    "\" is supported with byte_fallback"));
  }
}

bool ReadNormalizer(JsonFields& file) {
  bool prepends = false, replaces = false;
  for (const json* value : Steps(file, "normalizer", "normalizers")) {
    Step step(file, "normalizer", *value);
    if (step.type() == "Prepend" && !prepends && !replaces) {
      if (step.fields().String("prepend") != kPieceSpace) step.fields().Fail("only Prepend of U+2581 is supported");
      prepends = true;
    } else if (step.type() == "Replace" && !replaces) {
      RequireReplace(step, " ", kPieceSpace);
      replaces = true;
    } else {
      step.Refuse("with byte_fallback: Prepend, then Replace");
    }
  }
  if (file.ok() && !replaces) file.Fail("normalizer: with byte_fallback the Replace of spaces by U+2581 is needed");
  return prepends;
}

// Replace, ByteFallback, Fuse, and Strip of one space at the start or nothing.
bool ReadDecoder(JsonFields& file) {
  constexpr const char* kOrder[] = {"Replace", "ByteFallback", "Fuse", "Strip"};
  std::size_t next = 0;
  for (const json* value : Steps(file, "decoder", "decoders")) {
    Step step(file, "decoder", *value);
    if (next == std::size(kOrder) || step.type() != kOrder[next]) {
      step.Refuse("with byte_fallback: Replace, ByteFallback, Fuse, then Strip or nothing");
      return false;
    }
    if (next == 0) RequireReplace(step, kPieceSpace, " ");
    if (next == 3 && (step.fields().String("content") != " " || step.fields().Int("start", 0, 1000) != 1 ||
                      step.fields().Int("stop", 0, 1000) != 0)) {
      step.fields().Fail("only Strip of one space at the start is supported");
    }
    ++next;
  }
  if (file.ok() && next < 3) file.Fail("decoder: with byte_fallback Replace, ByteFallback and Fuse are needed");
  return next == 4;
}

}  // namespace

PieceRules ReadPieceRules(JsonFields& file) {
  PieceRules rules;
  rules.adds_space = ReadNormalizer(file);
  if (file.ok()) rules.strips_space = ReadDecoder(file);
  if (file.ok() && file.Find("pre_tokenizer") != nullptr) {
    file.Fail("pre_tokenizer: none is supported with byte_fallback");
  }
  return rules;
}

}  // namespace megakernel
