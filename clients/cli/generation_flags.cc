#include "clients/cli/generation_flags.h"

#include <algorithm>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace megakernel::cli {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// What the help page says of one field; the flag's name is the field's.
struct FieldHelp {
  absl::string_view field;
  absl::string_view placeholder;  // empty: a switch
  absl::string_view help;
};

constexpr FieldHelp kSampling[] = {
    {"temperature", "X", "Randomness, 0 to 100: 0 always takes the likeliest token. Default: 1, or the model's own."},
    {"top_k", "K", "Choose among the K likeliest tokens only. 0: off. Default: 0, or the model's own."},
    {"top_p", "P", "Choose among the likeliest tokens that reach probability P together, 0 < P <= 1. 1: off."},
    {"min_p", "P", "Choose among tokens at least P times as likely as the likeliest, 0 to 1. 0: off."},
    {"repetition_penalty", "X", "Makes tokens of prompt and output less likely (above 1), 0 < X <= 10. 1: off."},
    {"presence_penalty", "X", "Subtracted once from the logits of tokens in the output, -10 to 10. 0: off."},
    {"frequency_penalty", "X", "Subtracted per occurrence from the logits of tokens in the output, -10 to 10. 0: off."},
    {"logit_bias", "ID=X", "Adds X, -100 to 100, to the logits of token ID. May be repeated."},
    {"allowed_token_ids", "ID,ID,...", "Only these tokens may be chosen. May be repeated."},
    {"seed", "N", "Makes the choice repeatable: equal seeds give equal tokens. Default: random."},
};

constexpr FieldHelp kStopping[] = {
    {"max_tokens", "N", "Generate at most N tokens. Default: until the model ends or the context is full."},
    {"min_tokens", "N", "Do not end before N tokens. Default: 0."},
    {"stop", "TEXT", "End where TEXT appears ($'\\n' is a line break in bash). May be repeated, up to 16 times."},
    {"stop_token_ids", "ID,ID,...", "End with the first of these tokens. May be repeated."},
    {"ignore_eos", "", "Go on after the model's end-of-sequence token."},
    {"include_stop", "", "Leave the matched stop text in the output."},
};

constexpr FieldHelp kOutput[] = {
    {"text", "", "Text in the answer; on unless --no-text."},
    {"token_ids", "", "Token ids in the answer; on unless --no-token-ids. Seen with --json or --no-text."},
    {"logprobs", "N", "Log probability of each token and of the N likeliest. Seen with --json."},
    {"prompt_logprobs", "N", "The same for the tokens of the prompt. Seen with --json."},
    {"skip_special_tokens", "", "Leave special tokens out of the text; on unless --no-skip-special-tokens."},
};

absl::Status SetMapEntry(const std::string& text, v1::SamplingParameters* sampling) {
  const size_t equals = text.find('=');
  std::int32_t id = 0;
  float bias = 0;
  if (equals == std::string::npos || !ParseInt32(text.substr(0, equals), &id).ok() ||
      !ParseFloat(text.substr(equals + 1), &bias).ok()) {
    return absl::InvalidArgumentError(absl::StrCat("expected TOKEN_ID=NUMBER, got '", text, "'"));
  }
  (*sampling->mutable_logit_bias())[id] = bias;
  return absl::OkStatus();
}

// Reads `text` as the field's type and stores it; repeated fields grow.
absl::Status SetField(const FieldDescriptor* field, const std::string& text, Message* message) {
  const Reflection* reflection = message->GetReflection();
  if (field->is_map()) return SetMapEntry(text, static_cast<v1::SamplingParameters*>(message));
  if (field->is_repeated() && field->cpp_type() == FieldDescriptor::CPPTYPE_INT32) {
    const auto values = ParseInt32List(text);
    if (!values.ok()) return values.status();
    for (const std::int32_t value : *values) reflection->AddInt32(message, field, value);
    return absl::OkStatus();
  }
  absl::Status status;
  std::int32_t int32_value = 0;
  std::uint64_t uint64_value = 0;
  float float_value = 0;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      status = ParseInt32(text, &int32_value);
      if (status.ok()) reflection->SetInt32(message, field, int32_value);
      return status;
    case FieldDescriptor::CPPTYPE_UINT64:
      status = ParseUint64(text, &uint64_value);
      if (status.ok()) reflection->SetUInt64(message, field, uint64_value);
      return status;
    case FieldDescriptor::CPPTYPE_FLOAT:
      status = ParseFloat(text, &float_value);
      if (status.ok()) reflection->SetFloat(message, field, float_value);
      return status;
    case FieldDescriptor::CPPTYPE_BOOL:
      reflection->SetBool(message, field, text == "true");
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_STRING:
      reflection->AddString(message, field, text);
      return absl::OkStatus();
    default:
      return absl::UnimplementedError(absl::StrCat("no flag can set ", field->full_name()));
  }
}

template <size_t kSize>
void AddFlags(const FieldHelp (&table)[kSize], FlagSet* flags, Message* message) {
  for (const FieldHelp& entry : table) {
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(std::string(entry.field));
    if (field == nullptr) continue;  // a test holds the tables against the proto
    std::string name(entry.field);
    std::replace(name.begin(), name.end(), '_', '-');
    flags->Value(std::move(name), std::string(entry.placeholder), std::string(entry.help),
                 [field, message](const std::string& text) { return SetField(field, text, message); });
  }
}

}  // namespace

void AddSamplingFlags(FlagSet* flags, v1::SamplingParameters* sampling) {
  flags->Group("Sampling");
  AddFlags(kSampling, flags, sampling);
}

void AddStoppingFlags(FlagSet* flags, v1::StoppingCriteria* stopping) {
  flags->Group("Stopping");
  AddFlags(kStopping, flags, stopping);
}

void AddOutputFlags(FlagSet* flags, v1::OutputOptions* output) {
  flags->Group("Output");
  AddFlags(kOutput, flags, output);
}

}  // namespace megakernel::cli
