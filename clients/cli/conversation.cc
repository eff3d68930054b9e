#include "clients/cli/conversation.h"

#include <utility>

namespace megakernel::cli {
namespace {

// For the short calls of a conversation, and for a stopped reply to leave the model.
constexpr absl::Duration kShortCall = absl::Seconds(10);

client::CallOptions ShortCall() {
  client::CallOptions options;
  options.timeout = kShortCall;
  return options;
}

}  // namespace

Conversation::Conversation(client::Client* client, Interrupts* interrupts, v1::GenerateRequest settings,
                           std::string system)
    : client_(client), interrupts_(interrupts), settings_(std::move(settings)), system_(std::move(system)) {}

client::Error Conversation::Start(absl::Duration ttl) {
  v1::CreateSessionRequest request;
  if (ttl > absl::ZeroDuration()) {
    request.mutable_idle_ttl()->set_seconds(absl::ToInt64Seconds(ttl));
    const absl::Duration rest = ttl - absl::Trunc(ttl, absl::Seconds(1));
    request.mutable_idle_ttl()->set_nanos(static_cast<int>(absl::ToInt64Nanoseconds(rest)));
  }
  const auto session = client_->CreateSession(request, ShortCall());
  if (!session.ok()) return session.error();
  ttl_ = ttl;
  owned_ = true;
  session_id_ = session->session_id();
  length_ = 0;
  turns_.clear();
  return client::Error();
}

client::Error Conversation::Join(const std::string& session_id) {
  const auto session = client_->AwaitIdleSession(session_id, kShortCall);
  if (!session.ok()) return session.error();
  session_id_ = session_id;
  length_ = session->length();
  return client::Error();
}

ReplyOutcome Conversation::Say(const std::string& message, const ReplyStyle& style,
                               const client::CallOptions& call_options, client::CancelToken* cancel) {
  v1::GenerateRequest request = settings_;
  request.set_session_id(session_id_);
  request.set_expected_length(length_);
  if (length_ == 0 && !system_.empty()) {
    v1::ChatMessage* system = request.mutable_chat()->add_messages();
    system->set_role("system");
    system->set_content(system_);
  }
  v1::ChatMessage* user = request.mutable_chat()->add_messages();
  user->set_role("user");
  user->set_content(message);
  ReplyOutcome outcome = RunReply(client_, request, call_options, cancel, interrupts_, style);
  const int start = length_;
  if (outcome.error.ok()) {
    length_ = outcome.session_length;
  } else if (const client::Error error = Resynchronise(); !error.ok() && outcome.signal != 0) {
    outcome.error = error;  // the stop itself is no failure, but this is
  }
  if (length_ > start) turns_.push_back({start, message});
  return outcome;
}

client::Error Conversation::Resynchronise() {
  const auto session = client_->AwaitIdleSession(session_id_, kShortCall);
  if (!session.ok()) return session.error();
  length_ = session->length();
  return client::Error();
}

client::Error Conversation::RollBack(int length) {
  v1::RollbackSessionRequest request;
  request.set_session_id(session_id_);
  request.set_length(length);
  const auto session = client_->RollbackSession(request, ShortCall());
  if (!session.ok()) return session.error();
  length_ = session->length();
  return client::Error();
}

client::Error Conversation::Undo() {
  if (turns_.empty()) return client::MakeError(absl::StatusCode::kNotFound, "there is nothing to take back");
  const client::Error error = RollBack(turns_.back().start);
  if (error.ok()) turns_.pop_back();
  return error;
}

client::Error Conversation::Reset() {
  client::Error error = RollBack(0);
  if (error.ok()) turns_.clear();
  if (error.code == absl::StatusCode::kNotFound) error = Start(ttl_);
  return error;
}

client::Error Conversation::End() {
  if (!owned_ || session_id_.empty()) return client::Error();
  return client_->DeleteSession(session_id_, ShortCall());
}

}  // namespace megakernel::cli
