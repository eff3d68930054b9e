// The parts of tokenizer.json that are lists of steps.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/model/json_text.h"

namespace megakernel {

// The steps of a part that may be null, one step, or a sequence of steps under `list_key`.
inline std::vector<const nlohmann::json*> Steps(JsonFields& file, const char* part, const char* list_key) {
  const nlohmann::json* value = file.Find(part);
  if (value == nullptr) return {};
  if (!value->is_object()) {
    file.Fail(absl::StrCat(part, " must be an object"));
    return {};
  }
  JsonFields fields(*value, absl::StrCat(file.where(), ": ", part));
  if (fields.String("type") != "Sequence") return {value};
  std::vector<const nlohmann::json*> steps;
  const nlohmann::json* list = fields.Find(list_key);
  if (list != nullptr && list->is_array()) {
    for (const nlohmann::json& step : *list) {
      if (!step.is_object()) file.Fail(absl::StrCat(part, ": ", list_key, " must hold objects"));
      steps.push_back(&step);
    }
  } else {
    file.Fail(absl::StrCat(part, ": a Sequence needs the list ", list_key));
  }
  if (!file.ok()) steps.clear();
  return steps;
}

// Reads one step of a part; hands the first error on to the file.
class Step {
 public:
  Step(JsonFields& file, const char* part, const nlohmann::json& value)
      : file_(file), fields_(value, absl::StrCat(file.where(), ": ", part)), type_(fields_.String("type")) {}
  ~Step() {
    if (!fields_.ok()) file_.Fail(std::string(fields_.status().message().substr(file_.where().size() + 2)));
  }
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  const std::string& type() const { return type_; }
  JsonFields& fields() { return fields_; }

  // A truth value that must be as given.
  void Require(const char* key, bool value, bool when_absent) {
    if (fields_.Bool(key, when_absent) != value) {
      fields_.Fail(absl::StrCat(type_, " with ", key, " ", value ? "false" : "true", " is not supported"));
    }
  }

  void Refuse(const char* supported) {
    fields_.Fail(absl::StrCat("type \"", type_, "\" is not supported here (", supported, ")"));
  }

 private:
  JsonFields& file_;
  JsonFields fields_;
  std::string type_;
};

}  // namespace megakernel
