#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "clients/cli/command.h"

namespace megakernel::cli {
namespace {

constexpr HelpPage kModelPage = {
    "megakernel model [flags]",
    "Prints which model the server serves, its limits, and the request parameters that it honours.",
    "  megakernel model\n"
    "  megakernel model --json | jq .max_context",
};

constexpr HelpPage kHealthPage = {
    "megakernel health [flags]",
    "Prints SERVING and exits with 0 if the server takes requests; NOT_SERVING (starting, draining or failed) and 1 "
    "if\n"
    "not. --wait keeps trying for --connect-timeout; --watch prints each change until Ctrl-C.",
    "  megakernel health\n"
    "  megakernel health --wait --connect-timeout 60 && megakernel chat    # after starting a server\n"
    "  megakernel health --service megakernel.v1.InferenceService\n"
    "  megakernel health --watch",
};

std::string ModelText(const v1::GetModelResponse& model) {
  std::string text;
  const auto line = [&text](absl::string_view name, const std::string& value) {
    absl::StrAppendFormat(&text, "%-20s %s\n", name, value);
  };
  const v1::Capabilities& can = model.capabilities();
  line("model", absl::StrCat(model.name(), " (", model.family(), ")"));
  line("identity", model.identity());
  line("device", can.device());
  line("server", absl::StrCat(model.version(), ", instance ", model.instance_id()));
  line("vocabulary", absl::StrCat(model.vocab_size(), " tokens"));
  line("context", absl::StrCat(model.max_context(), " tokens"));
  line("end of sequence", absl::StrJoin(model.eos_token_ids(), " "));
  line("chat template", model.has_chat_template() ? "yes" : "no");
  line("sampling defaults", ToJson(model.default_sampling()));
  line("keys and values", absl::StrCat(can.num_pages(), " pages of ", can.page_tokens(), " tokens, ", can.kv_type()));
  line("at the same time", absl::StrCat(can.max_lanes(), " sequences, ", can.max_rows(), " rows a step"));
  line("waiting at most", absl::StrCat(can.max_queue(), " requests"));
  line("sessions at most", absl::StrCat(can.max_sessions()));
  line("logprobs at most", absl::StrCat(can.max_logprobs()));
  line("parameters", absl::StrJoin(can.parameters(), " "));
  return text;
}

void ShowHealth(const Invocation& invocation, client::Health health) {
  const std::string name = client::HealthName(health);
  Print(invocation.json() ? absl::StrCat("{\"status\":", JsonString(name), "}\n") : absl::StrCat(name, "\n"));
}

int Watch(const Invocation& invocation, client::Client* client, const std::string& service) {
  const auto show = [&invocation](client::Health health) {
    ShowHealth(invocation, health);
    return true;
  };
  return invocation.Fail(client->WatchHealth(service, show, invocation.call_options()));
}

}  // namespace

int RunModel(const Arguments& arguments) {
  Invocation invocation(kModelPage);
  if (!invocation.Parse(arguments, 0)) return invocation.exit_status();
  const auto client = invocation.Connect();
  if (client == nullptr) return kExitFailed;
  const auto model = client->GetModel(invocation.call_options());
  if (!model.ok()) return invocation.Fail(model.error());
  Print(invocation.json() ? absl::StrCat(ToJson(model.value()), "\n") : ModelText(model.value()));
  return kExitOk;
}

int RunHealth(const Arguments& arguments) {
  std::string service;
  bool watch = false;
  Invocation invocation(kHealthPage);
  invocation.flags()->Group("Health");
  invocation.flags()->Text("service", "NAME", "Ask for one service of the server. Default: the server as a whole.",
                           &service);
  invocation.flags()->Switch("watch", "Print the state now and at each change, until Ctrl-C.", &watch);
  if (!invocation.Parse(arguments, 0)) return invocation.exit_status();
  const auto client = invocation.Connect();
  if (client == nullptr) return kExitFailed;
  if (watch) return Watch(invocation, client.get(), service);
  if (invocation.wait()) {
    const client::Error error = client->WaitUntilServing(invocation.connect_timeout());
    if (!error.ok()) return invocation.Fail(error);
  }
  const auto health = client->CheckHealth(service, invocation.call_options());
  if (!health.ok()) return invocation.Fail(health.error());
  ShowHealth(invocation, health.value());
  return health.value() == client::Health::kServing ? kExitOk : kExitFailed;
}

}  // namespace megakernel::cli
