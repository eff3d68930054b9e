#include "clients/cli/command.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/protobuf/util/json_util.h"

namespace megakernel::cli {
namespace {

constexpr char kDefaultServer[] = "127.0.0.1:50051";
constexpr char kServerVariable[] = "MEGAKERNEL_SERVER";

std::string DefaultServer() {
  const char* set = std::getenv(kServerVariable);
  return set != nullptr && set[0] != '\0' ? set : kDefaultServer;
}

}  // namespace

Invocation::Invocation(const HelpPage& page) : page_(page), server_(DefaultServer()) {}

bool Invocation::Parse(const Arguments& arguments, int max_positional) {
  flags_.Group("Connection and output");
  flags_.Text("server", "HOST:PORT",
              absl::StrCat("Where the server listens. Default: $", kServerVariable, ", or ", kDefaultServer, "."),
              &server_);
  AddConnectionFlags(&flags_, &connection_);
  flags_.Seconds("connect-timeout", "How long to wait for a server that does not answer. Default: 5.",
                 &connect_timeout_seconds_);
  flags_.Switch("wait", "Keep trying for --connect-timeout if nobody listens yet: for a server that is starting.",
                &wait_);
  flags_.Seconds("timeout", "Deadline of each call to the server. Default: none.", &timeout_seconds_);
  flags_.Switch("json", "Print one JSON object per line, errors included, on stdout.", &json_);
  flags_.Switch("help", "Print this page.", &help_);

  Arguments spelled = arguments;
  for (std::string& argument : spelled) {
    if (argument == "--") break;
    if (argument == "-h") argument = "--help";
  }
  auto rest = flags_.Parse(spelled);
  if (!rest.ok()) {
    exit_status_ = Misuse(rest.status().message());
    return false;
  }
  if (help_) {
    Print(absl::StrCat("Usage: ", page_.usage, "\n\n", page_.about, "\n", flags_.Help(), "\nExamples:\n",
                       page_.examples, "\n"));
    return false;
  }
  if (const absl::Status read = ReadConnectionFlags(connection_, &connect_options_); !read.ok()) {
    exit_status_ = Misuse(read.message());
    return false;
  }
  positional_ = *std::move(rest);
  if (static_cast<int>(positional_.size()) > max_positional) {
    exit_status_ = Misuse(absl::StrCat("unexpected argument '", positional_[max_positional],
                                       max_positional > 0 ? "'; quote text that has spaces" : "'"));
    return false;
  }
  return true;
}

std::unique_ptr<client::Client> Invocation::Connect(Interrupts* interrupts) const {
  client::ConnectOptions options = connect_options_;
  options.timeout = connect_timeout();
  options.wait_for_server = wait_;
  client::Result<std::unique_ptr<client::Client>> client{nullptr};
  const auto connect = [&] { client = client::Client::Connect(server_, options); };
  if (interrupts == nullptr) {
    connect();
  } else {
    interrupts->During([] { _exit(kExitInterrupted); }, connect);
  }
  if (client.ok()) return std::move(client).value();
  client::Error error = client.error();
  if (error.code == absl::StatusCode::kUnavailable) {
    error.hint = absl::StrCat(
        "Start one with `megakernel-server --model PATH`, or name the address of one that runs with "
        "--server HOST:PORT or ",
        kServerVariable, ".",
        connect_options_.tls.has_value()
            ? " If one listens there, check that it uses TLS and that --tls-ca, --tls-cert "
              "and --tls-server-name fit it."
            : " If it asks for TLS, give --tls-ca or --tls.");
  }
  Fail(error);
  return nullptr;
}

client::CallOptions Invocation::call_options(client::CancelToken* cancel) const {
  client::CallOptions options;
  if (timeout_seconds_ > 0) options.timeout = absl::Seconds(timeout_seconds_);
  options.cancel = cancel;
  return options;
}

int Invocation::Fail(const client::Error& error) const {
  if (json_) {
    Print(absl::StrCat("{\"error\":{\"code\":", JsonString(absl::StatusCodeToString(error.code)),
                       ",\"reason\":", JsonString(error.reason), ",\"field\":", JsonString(error.field),
                       ",\"message\":", JsonString(error.message), ",\"hint\":", JsonString(error.hint),
                       ",\"retry_after_ms\":", absl::ToInt64Milliseconds(error.retry_after), "}}\n"));
  } else {
    absl::FPrintF(stderr, "megakernel: %s\n  %s\n", client::Describe(error), error.hint);
  }
  return kExitFailed;
}

int Invocation::Misuse(absl::string_view message) const {
  const absl::string_view command = page_.usage.substr(0, page_.usage.find(" ["));
  absl::FPrintF(stderr, "megakernel: %s\n  `%s --help` explains the command.\n", message, command);
  return kExitUsage;
}

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (status.ok()) return json;
  return absl::StrCat("{\"error\":{\"code\":\"INTERNAL\",\"message\":", JsonString(status.ToString()), "}}");
}

std::string JsonString(absl::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          absl::StrAppendFormat(&out, "\\u%04x", static_cast<unsigned char>(c));
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

void Print(absl::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace megakernel::cli
