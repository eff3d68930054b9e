#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "clients/cli/command.h"

namespace megakernel::cli {
namespace {

constexpr HelpPage kPage = {
    "megakernel session [flags] create | get ID | list | fork ID | rollback ID LENGTH | delete ID... |\n"
    "                   save ID NAME | restore NAME | saved | forget NAME...",
    "Sessions are sequences of tokens whose keys and values stay on the server between calls.\n"
    "  create    makes an empty session and prints its id\n"
    "  get       prints one session; --tokens adds its token ids\n"
    "  list      prints all sessions, oldest first\n"
    "  fork      makes a session that shares the first tokens of another (all of them, or --length), prints its id\n"
    "  rollback  keeps the first LENGTH tokens and drops the rest\n"
    "  delete    deletes sessions; what runs on them is cancelled\n"
    "  save      writes a session to the server's disk; it replaces what was saved under the name\n"
    "  restore   makes a session from a saved one, prints its id\n"
    "  saved     prints what is saved\n"
    "  forget    deletes saved sessions",
    "  id=$(megakernel session create --ttl 3600)\n"
    "  megakernel generate --session $id \"Once upon a time\" --max-tokens 40\n"
    "  megakernel session get $id\n"
    "  other=$(megakernel session fork $id --length 4)\n"
    "  megakernel session rollback $id 4\n"
    "  megakernel session save $id story\n"
    "  megakernel generate --session $(megakernel session restore story) \"And then\"\n"
    "  megakernel session list --json\n"
    "  megakernel session delete $id $other",
};

constexpr int kListPage = 1000;  // the most that one call may ask for

// What the flags said. Plain data.
struct Options {
  double ttl_seconds = 0;  // 0: the server's default
  std::string length;      // of a fork; empty: all
  bool tokens = false;
};

void SetDuration(double seconds, google::protobuf::Duration* duration) {
  const auto whole = static_cast<std::int64_t>(seconds);
  duration->set_seconds(whole);
  duration->set_nanos(static_cast<std::int32_t>((seconds - static_cast<double>(whole)) * 1e9));
}

std::string Row(const v1::Session& session) {
  const absl::Time expires =
      absl::FromUnixSeconds(session.expire_time().seconds()) + absl::Nanoseconds(session.expire_time().nanos());
  const absl::Duration left = absl::Trunc(expires - absl::Now(), absl::Seconds(1));
  return absl::StrFormat("%-32s %8d %8d  %-10s %s\n", session.session_id(), session.length(), session.capacity(),
                         absl::FormatDuration(left), session.busy() ? "busy" : "idle");
}

std::string Header() {
  return absl::StrFormat("%-32s %8s %8s  %-10s %s\n", "ID", "LENGTH", "CAPACITY", "EXPIRES IN", "STATE");
}

// Prints a session: as JSON, as its id alone (for scripts that go on with it), or as a table.
int Show(const Invocation& invocation, const client::Result<v1::Session>& session, bool id_only) {
  if (!session.ok()) return invocation.Fail(session.error());
  if (invocation.json()) {
    Print(absl::StrCat(ToJson(session.value()), "\n"));
  } else if (id_only) {
    Print(absl::StrCat(session->session_id(), "\n"));
  } else {
    Print(absl::StrCat(Header(), Row(session.value())));
  }
  return kExitOk;
}

int Create(const Invocation& invocation, client::Client* client, const Options& options) {
  v1::CreateSessionRequest request;
  if (options.ttl_seconds > 0) SetDuration(options.ttl_seconds, request.mutable_idle_ttl());
  return Show(invocation, client->CreateSession(request, invocation.call_options()), /*id_only=*/true);
}

int Get(const Invocation& invocation, client::Client* client, const Options& options, const std::string& id) {
  v1::GetSessionRequest request;
  request.set_session_id(id);
  if (options.tokens) request.set_include_tokens(true);
  const auto response = client->GetSession(request, invocation.call_options());
  if (!response.ok()) return invocation.Fail(response.error());
  if (invocation.json()) {
    Print(absl::StrCat(ToJson(response.value()), "\n"));
    return kExitOk;
  }
  std::string text = absl::StrCat(Header(), Row(response->session()));
  if (options.tokens) absl::StrAppend(&text, absl::StrJoin(response->token_ids(), " "), "\n");
  Print(text);
  return kExitOk;
}

int List(const Invocation& invocation, client::Client* client) {
  v1::ListSessionsRequest request;
  request.set_page_size(kListPage);
  if (!invocation.json()) Print(Header());
  while (true) {
    const auto response = client->ListSessions(request, invocation.call_options());
    if (!response.ok()) return invocation.Fail(response.error());
    for (const v1::Session& session : response->sessions()) {
      Print(invocation.json() ? absl::StrCat(ToJson(session), "\n") : Row(session));
    }
    if (response->next_page_token().empty()) return kExitOk;
    request.set_page_token(response->next_page_token());
  }
}

int Fork(const Invocation& invocation, client::Client* client, const Options& options, const std::string& id) {
  v1::ForkSessionRequest request;
  request.set_session_id(id);
  if (options.ttl_seconds > 0) SetDuration(options.ttl_seconds, request.mutable_idle_ttl());
  std::int32_t length = 0;
  if (!options.length.empty()) {
    const absl::Status status = ParseInt32(options.length, &length);
    if (!status.ok()) return invocation.Misuse(absl::StrCat("--length: ", status.message()));
    request.set_length(length);
  }
  return Show(invocation, client->ForkSession(request, invocation.call_options()), /*id_only=*/true);
}

int Rollback(const Invocation& invocation, client::Client* client, const std::string& id, const std::string& length) {
  v1::RollbackSessionRequest request;
  request.set_session_id(id);
  std::int32_t value = 0;
  const absl::Status status = ParseInt32(length, &value);
  if (!status.ok()) return invocation.Misuse(absl::StrCat("LENGTH: ", status.message()));
  request.set_length(value);
  return Show(invocation, client->RollbackSession(request, invocation.call_options()), /*id_only=*/false);
}

// Deletes all that can be deleted; fails if one could not.
int Delete(const Invocation& invocation, client::Client* client, const std::vector<std::string>& ids) {
  int exit_status = kExitOk;
  for (const std::string& id : ids) {
    const client::Error error = client->DeleteSession(id, invocation.call_options());
    if (!error.ok()) exit_status = invocation.Fail(error);
  }
  return exit_status;
}

int Save(const Invocation& invocation, client::Client* client, const std::string& id, const std::string& name) {
  v1::SaveSessionRequest request;
  request.set_session_id(id);
  request.set_name(name);
  const auto saved = client->SaveSession(request, invocation.call_options());
  if (!saved.ok()) return invocation.Fail(saved.error());
  Print(invocation.json() ? absl::StrCat(ToJson(saved.value()), "\n")
                          : absl::StrFormat("%s: %d bytes\n", saved->name(), saved->size_bytes()));
  return kExitOk;
}

int Restore(const Invocation& invocation, client::Client* client, const Options& options, const std::string& name) {
  v1::RestoreSessionRequest request;
  request.set_name(name);
  if (options.ttl_seconds > 0) SetDuration(options.ttl_seconds, request.mutable_idle_ttl());
  return Show(invocation, client->RestoreSession(request, invocation.call_options()), /*id_only=*/true);
}

int Saved(const Invocation& invocation, client::Client* client) {
  const auto response = client->ListSavedSessions(invocation.call_options());
  if (!response.ok()) return invocation.Fail(response.error());
  if (!invocation.json()) Print(absl::StrFormat("%-64s %12s  %s\n", "NAME", "BYTES", "SAVED"));
  for (const v1::SavedSession& saved : response->saved_sessions()) {
    const absl::Time time = absl::FromUnixSeconds(saved.save_time().seconds());
    Print(invocation.json() ? absl::StrCat(ToJson(saved), "\n")
                            : absl::StrFormat("%-64s %12d  %s\n", saved.name(), saved.size_bytes(),
                                              absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone())));
  }
  return kExitOk;
}

// Deletes all that can be deleted; fails if one could not.
int Forget(const Invocation& invocation, client::Client* client, const std::vector<std::string>& names) {
  int exit_status = kExitOk;
  for (const std::string& name : names) {
    const client::Error error = client->DeleteSavedSession(name, invocation.call_options());
    if (!error.ok()) exit_status = invocation.Fail(error);
  }
  return exit_status;
}

// A verb and how many arguments it takes.
struct Verb {
  absl::string_view name;
  int min_arguments;
  int max_arguments;
  absl::string_view arguments;
};
constexpr int kMaxDeleted = 1000;
constexpr Verb kVerbs[] = {{"create", 0, 0, ""},
                           {"get", 1, 1, " ID"},
                           {"list", 0, 0, ""},
                           {"fork", 1, 1, " ID"},
                           {"rollback", 2, 2, " ID LENGTH"},
                           {"delete", 1, kMaxDeleted, " ID..."},
                           {"save", 2, 2, " ID NAME"},
                           {"restore", 1, 1, " NAME"},
                           {"saved", 0, 0, ""},
                           {"forget", 1, kMaxDeleted, " NAME..."}};

// Checks the verb and the number of its arguments before anything is sent; empty if they are right.
std::string Problem(const std::vector<std::string>& words) {
  std::vector<std::string> names;
  for (const Verb& verb : kVerbs) names.emplace_back(verb.name);
  if (words.empty()) return absl::StrCat("say what to do: ", absl::StrJoin(names, ", "));
  const int given = static_cast<int>(words.size()) - 1;
  for (const Verb& verb : kVerbs) {
    if (verb.name != words[0]) continue;
    if (given >= verb.min_arguments && given <= verb.max_arguments) return "";
    return absl::StrCat("write: megakernel session ", verb.name, verb.arguments);
  }
  const std::string nearest = Nearest(words[0], names);
  return absl::StrCat("unknown action '", words[0], "'", nearest.empty() ? "" : "; did you mean ", nearest,
                      nearest.empty() ? "" : "?");
}

}  // namespace

int RunSession(const Arguments& arguments) {
  Options options;
  Invocation invocation(kPage);
  invocation.flags()->Group("Session");
  invocation.flags()->Seconds("ttl",
                              "Of create, fork and restore: the session expires after this time without use. Default: "
                              "the server's, or that of the forked session.",
                              &options.ttl_seconds);
  invocation.flags()->Text("length", "N", "Of fork: share the first N tokens. Default: all.", &options.length);
  invocation.flags()->Switch("tokens", "Of get: print the token ids too.", &options.tokens);
  if (!invocation.Parse(arguments, kMaxDeleted + 1)) return invocation.exit_status();
  const std::vector<std::string>& words = invocation.positional();
  const std::string problem = Problem(words);
  if (!problem.empty()) return invocation.Misuse(problem);
  const auto client = invocation.Connect();
  if (client == nullptr) return kExitFailed;
  const std::string& verb = words[0];
  if (verb == "create") return Create(invocation, client.get(), options);
  if (verb == "get") return Get(invocation, client.get(), options, words[1]);
  if (verb == "list") return List(invocation, client.get());
  if (verb == "fork") return Fork(invocation, client.get(), options, words[1]);
  if (verb == "rollback") return Rollback(invocation, client.get(), words[1], words[2]);
  if (verb == "save") return Save(invocation, client.get(), words[1], words[2]);
  if (verb == "restore") return Restore(invocation, client.get(), options, words[1]);
  if (verb == "saved") return Saved(invocation, client.get());
  if (verb == "forget") {
    return Forget(invocation, client.get(), std::vector<std::string>(words.begin() + 1, words.end()));
  }
  return Delete(invocation, client.get(), std::vector<std::string>(words.begin() + 1, words.end()));
}

}  // namespace megakernel::cli
