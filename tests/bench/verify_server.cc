#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "clients/cpp/client.h"
#include "engine/base/status_macros.h"
#include "tests/bench/verify_goldens.h"
#include "tests/clients/server_process.h"

namespace megakernel::bench {
namespace {

constexpr int kTop = 4;  // log probabilities asked for at each position

// What a server answered to one sequence.
struct Answer {
  std::vector<v1::PositionLogprobs> positions;  // of the prompt from its second token on, then of the output
  std::vector<std::int32_t> tokens;             // of the output
};

absl::StatusOr<Answer> Ask(client::Client& client, std::span<const std::int32_t> tokens, int max_tokens) {
  v1::GenerateRequest request;
  request.mutable_tokens()->mutable_ids()->Add(tokens.begin(), tokens.end());
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_output()->set_logprobs(kTop);
  request.mutable_output()->set_prompt_logprobs(kTop);
  Answer answer;
  const client::Error error = client.Generate(request, [&](const v1::GenerateResponse& response) {
    const v1::GenerationDelta& delta = response.delta();
    answer.positions.insert(answer.positions.end(), delta.prompt_logprobs().begin(), delta.prompt_logprobs().end());
    answer.positions.insert(answer.positions.end(), delta.logprobs().begin(), delta.logprobs().end());
    answer.tokens.insert(answer.tokens.end(), delta.token_ids().begin(), delta.token_ids().end());
    return true;
  });
  if (!error.ok()) return absl::InternalError(client::Describe(error));
  if (answer.positions.size() != tokens.size() - 1 + static_cast<std::size_t>(max_tokens)) {
    return absl::InternalError(absl::StrCat("log probabilities of ", answer.positions.size(), " positions came"));
  }
  return answer;
}

// The log probabilities of tokens that are among the likeliest on both sides.
void Compare(const test::ParityRow& row, const v1::PositionLogprobs& position, test::ParityErrors& errors) {
  for (const v1::TokenLogprob& top : position.top()) {
    const auto found = std::find(row.top_ids.begin(), row.top_ids.end(), top.token_id());
    if (found == row.top_ids.end()) continue;
    errors.AddDifference(top.logprob() - (double{row.top_logits[found - row.top_ids.begin()]} - row.log_sum));
  }
  errors.AddArgmax(row, position.top().empty() ? -1 : position.top(0).token_id());
}

// Greedy output tokens up to the first that is not the reference's.
std::size_t EqualTokens(const test::ParitySequence& sequence, const std::vector<std::int32_t>& tokens) {
  std::size_t equal = 0;
  while (equal < tokens.size() && tokens[equal] == sequence.rows[equal].top_ids[0]) ++equal;
  return equal;
}

}  // namespace

absl::Status VerifyServer(const std::string& model_path, const test::ParityGoldens& goldens, double bound,
                          const std::string& precision, nlohmann::ordered_json& result) {
  tests::ServerProcess server({"--device", "cpu", "--model", model_path, "--max-context", "512", "--precision",
                               precision,
                               // Whoever verifies may share the machine.
                               "--stall-timeout", "60s"});
  if (server.address().empty()) return absl::InternalError(absl::StrCat("no server:\n", server.log()));
  auto client = client::Client::Connect(server.address());
  if (!client.ok()) return absl::InternalError(client::Describe(client.error()));

  test::ParityErrors errors;
  std::size_t greedy_tokens = 0, greedy_equal = 0;
  for (const test::ParitySequence& sequence : goldens.sequences) {
    MK_ASSIGN_OR_RETURN(const Answer answer, Ask(*client.value(), sequence.tokens, 1));
    for (std::size_t i = 0; i < sequence.rows.size(); ++i) {
      Compare(sequence.rows[i], answer.positions[static_cast<std::size_t>(sequence.first) + i], errors);
    }
    if (sequence.first == 0) continue;
    const auto prompt = std::span(sequence.tokens).first(static_cast<std::size_t>(sequence.first) + 1);
    MK_ASSIGN_OR_RETURN(const Answer text, Ask(*client.value(), prompt, static_cast<int>(sequence.rows.size())));
    greedy_tokens += text.tokens.size();
    greedy_equal += EqualTokens(sequence, text.tokens);
  }
  client.value().reset();
  if (const int status = server.Stop(); status != 0) {
    return absl::InternalError(absl::StrCat("the server ended with status ", status, ":\n", server.log()));
  }
  // A log probability is a logit less the logarithm of a sum, which moves by no more than the logits do.
  const bool pass = errors.num_rows() > 0 && errors.num_logits() > errors.num_rows() &&
                    errors.absolute_max() <= 2 * bound && errors.argmax_differs_beyond_margin() == 0;
  result["server"] = {{"rows", errors.num_rows()},
                      {"log_probabilities", errors.num_logits()},
                      {"absolute_error_max", errors.absolute_max()},
                      {"bound", 2 * bound},
                      {"argmax_differs", errors.argmax_differs()},
                      {"argmax_widest_gap", errors.widest_gap()},
                      {"argmax_differs_beyond_margin", errors.argmax_differs_beyond_margin()},
                      {"greedy_tokens", greedy_tokens},
                      {"greedy_tokens_before_first_difference", greedy_equal},
                      {"pass", pass}};
  result["pass"] = result["pass"].get<bool>() && pass;
  return absl::OkStatus();
}

}  // namespace megakernel::bench
