#include "server/options.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/listen_address.h"
#include "server/option_values.h"

namespace megakernel {
namespace {

std::string Quoted(std::string_view text) {
  return absl::StrCat("\"", std::string(text), "\"");
}

std::string RangeText(const Option& option) {
  const auto text = [&](std::int64_t value) {
    if (option.kind == OptionKind::kSize) return FormatSize(value);
    if (option.kind == OptionKind::kDuration) return absl::FormatDuration(absl::Milliseconds(value));
    return absl::StrCat(value);
  };
  return absl::StrCat("[", text(option.min), ", ", text(option.max), "]", option.may_be_auto ? " or auto" : "");
}

absl::Status OutOfRange(const Option& option, std::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat(Quoted(text), " is out of range; allowed: ", RangeText(option)));
}

absl::Status SetNumber(const Option& option, std::string_view text, ServerOptions& options) {
  std::int64_t& target = options.*std::get<std::int64_t ServerOptions::*>(option.target);
  if (option.may_be_auto && text == "auto") {
    target = 0;
    return absl::OkStatus();
  }
  std::int64_t value = 0;
  if (option.kind == OptionKind::kSize) {
    const absl::StatusOr<std::int64_t> size = ParseSize(text);
    if (!size.ok()) return size.status();
    value = *size;
  } else {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc::result_out_of_range) return OutOfRange(option, text);
    if (error != std::errc() || end != text.data() + text.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(text), " is not a whole number; allowed: ", RangeText(option)));
    }
  }
  if (value < option.min || value > option.max) return OutOfRange(option, text);
  target = value;
  return absl::OkStatus();
}

absl::Status SetDuration(const Option& option, std::string_view text, ServerOptions& options) {
  absl::Duration value;
  if (!absl::ParseDuration(absl::string_view(text.data(), text.size()), &value)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(text), " is not a time; write 250ms, 30s, 10m or 1h30m; allowed: ", RangeText(option)));
  }
  if (value < absl::Milliseconds(option.min) || value > absl::Milliseconds(option.max)) {
    return OutOfRange(option, text);
  }
  options.*std::get<absl::Duration ServerOptions::*>(option.target) = value;
  return absl::OkStatus();
}

absl::Status SetChoice(const Option& option, std::string_view text, ServerOptions& options) {
  if (std::find(option.choices.begin(), option.choices.end(), text) == option.choices.end()) {
    std::vector<std::string> choices(option.choices.begin(), option.choices.end());
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(text), " is not one of the choices: ", absl::StrJoin(choices, ", ")));
  }
  options.*std::get<std::string ServerOptions::*>(option.target) = std::string(text);
  return absl::OkStatus();
}

int EditDistance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const int substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substitute, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

const Option* FindFlag(std::string_view flag) {
  for (const Option& option : Options()) {
    if (option.flag == flag) return &option;
  }
  return nullptr;
}

const Option* FindPath(std::string_view path) {
  for (const Option& option : Options()) {
    if (!option.path.empty() && option.path == path) return &option;
  }
  return nullptr;
}

absl::Status SetOption(const Option& option, std::string_view text, ServerOptions& options) {
  switch (option.kind) {
    case OptionKind::kString:
      if (text.empty()) return absl::InvalidArgumentError("the value is empty");
      options.*std::get<std::string ServerOptions::*>(option.target) = std::string(text);
      return absl::OkStatus();
    case OptionKind::kChoice:
      return SetChoice(option, text, options);
    case OptionKind::kInteger:
    case OptionKind::kSize:
      return SetNumber(option, text, options);
    case OptionKind::kDuration:
      return SetDuration(option, text, options);
    case OptionKind::kBool:
      if (text != "true" && text != "false") {
        return absl::InvalidArgumentError(absl::StrCat(Quoted(text), " is neither true nor false"));
      }
      options.*std::get<bool ServerOptions::*>(option.target) = text == "true";
      return absl::OkStatus();
  }
  return absl::InternalError("unknown kind of option");
}

std::string OptionText(const Option& option, const ServerOptions& options) {
  switch (option.kind) {
    case OptionKind::kString:
    case OptionKind::kChoice:
      return options.*std::get<std::string ServerOptions::*>(option.target);
    case OptionKind::kInteger:
    case OptionKind::kSize: {
      const std::int64_t value = options.*std::get<std::int64_t ServerOptions::*>(option.target);
      if (option.may_be_auto && value == 0) return "auto";
      return option.kind == OptionKind::kSize ? FormatSize(value) : absl::StrCat(value);
    }
    case OptionKind::kDuration:
      return absl::FormatDuration(options.*std::get<absl::Duration ServerOptions::*>(option.target));
    case OptionKind::kBool:
      return options.*std::get<bool ServerOptions::*>(option.target) ? "true" : "false";
  }
  return "";
}

std::string_view NearestName(std::string_view name, std::span<const std::string_view> names) {
  std::string_view nearest;
  int nearest_distance = static_cast<int>(name.size()) / 3 + 2;  // beyond this it is another word
  for (std::string_view candidate : names) {
    const int distance = EditDistance(name, candidate);
    if (distance < nearest_distance) {
      nearest = candidate;
      nearest_distance = distance;
    }
  }
  return nearest;
}

absl::Status CheckOptions(const ServerOptions& options) {
  if (options.model_path.empty() && options.device != "fake") {
    return absl::InvalidArgumentError(
        "--model is missing: name a GGUF file or a model directory, or use --device fake");
  }
  if (options.prompt_rows_busy > options.max_rows) {
    return absl::InvalidArgumentError(
        absl::StrCat("--prompt-rows-busy ", options.prompt_rows_busy, " is more than --max-rows ", options.max_rows));
  }
  if (options.tls_cert.empty() != options.tls_key.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(options.tls_cert.empty() ? "--tls-cert" : "--tls-key",
                                                   " is missing: a certificate and its key go together"));
  }
  if (!options.tls_client_ca.empty() && options.tls_cert.empty()) {
    return absl::InvalidArgumentError("--tls-client-ca needs --tls-cert and --tls-key");
  }
  if (const auto address = ParseListenAddress(options.listen); !address.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--listen: ", address.status().message()));
  }
  for (const auto& [flag, text] :
       {std::pair("--metrics-listen", &options.metrics_listen), std::pair("--admin-listen", &options.admin_listen)}) {
    if (text->empty()) continue;
    if (const auto address = ParseListenAddress(*text); !address.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(flag, ": ", address.status().message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace megakernel
