// A conversation whose history is a session of the server: only new messages are sent, and turns can be taken back.
#pragma once

#include <string>
#include <vector>

#include "clients/cli/interrupts.h"
#include "clients/cli/reply.h"
#include "clients/cpp/client.h"
#include "megakernel/v1/inference_service.pb.h"

namespace megakernel::cli {

// Not thread-safe. Every function that fails leaves the conversation as it was, unless it says otherwise.
class Conversation {
 public:
  // `settings` holds what each request has besides its messages and session: sampling, stopping, output, and in `chat`
  // tools and template arguments. `system` may be empty. `client` and `interrupts` must outlive the conversation.
  Conversation(client::Client* client, Interrupts* interrupts, v1::GenerateRequest settings, std::string system);

  // Makes the session. `ttl` is its idle time to live; zero: the server's default.
  client::Error Start(absl::Duration ttl);
  // Continues a session that exists; it is not deleted by End.
  client::Error Join(const std::string& session_id);

  // Says `message` and shows the reply. A reply that was stopped stays in the history as far as it was shown.
  ReplyOutcome Say(const std::string& message, const ReplyStyle& style, const client::CallOptions& call_options,
                   client::CancelToken* cancel);

  // Forgets the last message and its reply. NOT_FOUND if there is none that this program sent.
  client::Error Undo();
  // Forgets everything and, if the session itself is gone, makes a new one.
  client::Error Reset();
  // Deletes the session if Start made it.
  client::Error End();

  const std::string& session_id() const { return session_id_; }
  int length() const { return length_; }
  // The message of the last turn; empty if there is none.
  std::string last_message() const { return turns_.empty() ? "" : turns_.back().message; }

 private:
  struct Turn {
    int start;  // session length before it
    std::string message;
  };

  client::Error RollBack(int length);
  // Reads where the session stands after a reply that did not finish.
  client::Error Resynchronise();

  client::Client* const client_;
  Interrupts* const interrupts_;
  const v1::GenerateRequest settings_;
  const std::string system_;
  absl::Duration ttl_ = absl::ZeroDuration();
  bool owned_ = false;
  std::string session_id_;
  int length_ = 0;
  std::vector<Turn> turns_;
};

}  // namespace megakernel::cli
