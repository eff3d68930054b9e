#include "clients/cpp/error.h"

#include <string_view>

#include "absl/strings/str_cat.h"

namespace megakernel::client {
namespace {

struct ReasonHint {
  std::string_view reason;
  std::string_view hint;
};

// One line per reason of the API.
constexpr ReasonHint kReasonHints[] = {
    {"SESSION_NOT_FOUND",
     "Check the session id; sessions live in one server process and end with it. ListSessions shows those there are."},
    {"SESSION_EXPIRED",
     "The session was idle longer than its time to live and is gone. Create a new one and send the conversation again, "
     "or ask for a longer idle_ttl."},
    {"SESSION_BUSY", "Another operation runs on this session. Wait for it, cancel it, or fork the session."},
    {"LENGTH_MISMATCH",
     "The session has moved on: an earlier try may have worked. Read its length with GetSession before sending again."},
    {"SESSION_LIMIT", "Delete sessions that are no longer needed, or start the server with room for more."},
    {"QUEUE_FULL", "The server is busy. Try again in a moment, or start it with a larger --max-queue."},
    {"KV_EXHAUSTED",
     "The server has no room for more tokens. Delete sessions, try again later, or start it with more --kv-memory."},
    {"QUOTA_EXCEEDED",
     "Your tenant has used what it may. Try again later, delete sessions, or ask for fewer tokens at a time."},
    {"TOKEN_MISSING", "The server asks for a token: give --token-file or set MEGAKERNEL_TOKEN."},
    {"TOKEN_INVALID", "Check the token: the server's --auth-tokens file does not have it, or has it no longer."},
    {"SCOPE_MISSING", "Use a token with that scope: infer to generate, session for sessions, admin for the server."},
    {"SLOW_CONSUMER", "The answers were read too slowly. Read them as they come; the session keeps what was sent."},
    {"CONTEXT_EXCEEDED",
     "Shorten the prompt or lower max_tokens, roll the session back, or start the server with a larger --max-context."},
};

std::string_view HintForCode(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return "";
    case absl::StatusCode::kCancelled:
      return "The call was cancelled; send it again if that was not meant.";
    case absl::StatusCode::kInvalidArgument:
      return "Correct the value and send the request again.";
    case absl::StatusCode::kDeadlineExceeded:
      return "Allow more time, or ask for fewer tokens.";
    case absl::StatusCode::kUnavailable:
      return "Check that megakernel-server runs and listens at this address (127.0.0.1:50051 unless --listen says "
             "otherwise), then try again.";
    case absl::StatusCode::kUnimplemented:
      return "This server does not offer it: GetModel lists what it can. If it knows none of the methods, something "
             "other than a megakernel server listens at this address.";
    case absl::StatusCode::kResourceExhausted:
      return "The server is at a limit. Try again in a moment.";
    case absl::StatusCode::kNotFound:
      return "Check the name; what it stood for may be gone.";
    case absl::StatusCode::kAborted:
      return "Read the current state, then try again.";
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return "Check the credentials of this client.";
    default:
      return "This is a fault of the server. Its log says more.";
  }
}

}  // namespace

std::string HintFor(absl::StatusCode code, const std::string& reason, const std::string& field) {
  for (const ReasonHint& known : kReasonHints) {
    if (known.reason == reason) return std::string(known.hint);
  }
  if (code == absl::StatusCode::kInvalidArgument && !field.empty()) {
    return absl::StrCat("Correct ", field, " and send the request again.");
  }
  if (code == absl::StatusCode::kUnimplemented && !field.empty()) {
    return absl::StrCat("Leave ", field, " out: this server cannot honour it. GetModel lists what it can.");
  }
  return std::string(HintForCode(code));
}

std::string Describe(const Error& error) {
  if (error.ok()) return "OK";
  std::string text = absl::StatusCodeToString(error.code);
  if (!error.reason.empty()) absl::StrAppend(&text, " (", error.reason, ")");
  if (!error.field.empty()) absl::StrAppend(&text, " in ", error.field);
  absl::StrAppend(&text, ": ", error.message);
  return text;
}

Error MakeError(absl::StatusCode code, std::string message) {
  Error error;
  error.code = code;
  error.message = std::move(message);
  error.hint = HintFor(code, "", "");
  return error;
}

}  // namespace megakernel::client
