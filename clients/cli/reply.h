// One Generate call from the user's side: prints what comes as it comes, and measures it.
#pragma once

#include <string>

#include "absl/time/time.h"
#include "clients/cli/command.h"
#include "clients/cli/interrupts.h"
#include "clients/cpp/client.h"
#include "megakernel/v1/inference_service.pb.h"

namespace megakernel::cli {

// Times of one call, on the clock of this program. Plain data.
struct ReplyTimes {
  absl::Time sent;
  absl::Time first_output = absl::InfiniteFuture();  // the first delta with a token
  absl::Time last_output;
  int tokens = 0;        // of all sequences
  int first_tokens = 0;  // of these: came with the first output
};

// How a call went. Plain data.
struct ReplyOutcome {
  client::Error error;
  int signal = 0;          // that stopped it, 0 if none did
  int session_length = 0;  // from the last GenerationFinished; 0 if there was none
  ReplyTimes times;
};

// How the output of a call is shown.
struct ReplyStyle {
  bool json = false;       // each message as a line of JSON
  bool token_ids = false;  // ids instead of text
  bool stats = false;      // times and rates after it: to stderr, with json as {"stats": {...}} on stdout
};

// Runs `request`. SIGINT, SIGTERM and SIGHUP stop it. Errors are returned, not printed.
ReplyOutcome RunReply(client::Client* client, const v1::GenerateRequest& request, const client::CallOptions& options,
                      client::CancelToken* cancel, Interrupts* interrupts, const ReplyStyle& style);

// "first token 23.4 ms, 128 tokens, 151.2 tokens/s". Tokens that came with the first output do not count in the rate:
// the time before it belongs to the prompt.
std::string DescribeTimes(const ReplyTimes& times);

}  // namespace megakernel::cli
