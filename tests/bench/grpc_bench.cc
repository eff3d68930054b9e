// megakernel-bench grpc: what serving costs a stream: tokens per second through a real megakernel-server on this
// machine over those of the same kernel driven in-process.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "clients/cpp/client.h"
#include "engine/base/status_macros.h"
#include "engine/cuda/cuda_executor.h"
#include "tests/bench/arguments.h"
#include "tests/bench/lane_driver.h"
#include "tests/bench/preset_model.h"
#include "tests/bench/subcommand.h"
#include "tests/clients/server_process.h"
#include "tests/support/temp_checkpoint.h"

namespace megakernel::bench {
namespace {

constexpr char kName[] = "grpc";
constexpr char kSummary[] =
    "Tokens per second of one greedy stream from a one-token prompt, first request to last token: in-process, then\n"
    "through megakernel-server --device cuda over loopback, on the same checkpoint. Then a client is killed in its\n"
    "stream: another one must get the server's only lane within 2 s. The programs are found in $MEGAKERNEL_BIN.";
constexpr Option kOptions[] = {
    {"config", "FILE|PRESET", "qwen3-0.6b", "of the random checkpoint that is made for the run"},
    {"seed", "N", "1", "of the random checkpoint"},
    {"tokens", "N", "1000", "tokens of a run"},
    {"runs", "N", "10", "runs on each side"},
    {"client", "ADDRESS", "", "instead: be a client that asks the server there for as many tokens as fit"},
    {"json", nullptr, nullptr, "print the result as JSON"},
};

constexpr TokenId kPrompt = 5;
constexpr std::int32_t kContext = 16384;

struct Rates {
  std::vector<double> tok_per_s;
  std::vector<TokenId> tokens;
};

absl::StatusOr<Rates> InProcess(const std::string& model_path, int tokens, int runs) {
  MK_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, LoadModel(model_path));
  CudaOptions options;
  options.max_context = kContext;
  options.max_lanes = 1;
  options.num_pages = layout::PagesFor(options.max_context, options.page_tokens);
  options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  MK_ASSIGN_OR_RETURN(const std::unique_ptr<Executor> executor, NewCudaExecutor(*model, options));
  LaneDriver driver(*executor);
  MK_ASSIGN_OR_RETURN(const std::vector<PageId> pages, driver.PagesOf(0, 1, tokens + 1));
  SamplingParams greedy;
  greedy.temperature = 0.0f;
  Rates rates;
  for (int run = -1; run < runs; ++run) {
    MK_ASSIGN_OR_RETURN(const LaneTimes times, driver.Generate({{kPrompt}}, {pages}, tokens, greedy));
    rates.tokens = times.tokens[0];
    if (run >= 0) rates.tok_per_s.push_back(tokens / times.seconds[0].back());
  }
  return rates;
}

absl::StatusOr<double> OneCall(client::Client& client, int tokens, std::vector<TokenId>& received) {
  v1::GenerateRequest request;
  request.mutable_tokens()->add_ids(kPrompt);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  received.clear();
  const auto start = std::chrono::steady_clock::now();
  auto last = start;
  const client::Error error = client.Generate(request, [&](const v1::GenerateResponse& response) {
    const auto& ids = response.delta().token_ids();
    if (!ids.empty()) last = std::chrono::steady_clock::now();
    received.insert(received.end(), ids.begin(), ids.end());
    return true;
  });
  if (!error.ok()) return absl::InternalError(client::Describe(error));
  return static_cast<double>(received.size()) / std::chrono::duration<double>(last - start).count();
}

int StreamForEver(const std::string& address) {
  auto client = client::Client::Connect(address);
  if (!client.ok()) return 1;
  std::vector<TokenId> received;
  return OneCall(*client.value(), kContext - 1, received).ok() ? 0 : 1;
}

// Seconds from the death of a client in the middle of its stream to the end of another one's short call.
absl::StatusOr<double> KillClient(const std::string& address, client::Client& other) {
  const pid_t pid = fork();
  if (pid == 0) {
    execl("/proc/self/exe", "megakernel-bench", kName, "--client", address.c_str(), nullptr);
    _exit(127);
  }
  std::this_thread::sleep_for(std::chrono::seconds(1));
  int status = 0;
  const bool streams = waitpid(pid, &status, WNOHANG) == 0;
  const auto killed = std::chrono::steady_clock::now();
  if (!streams) return absl::InternalError("the client that was to be killed ended by itself");
  kill(pid, SIGKILL);
  waitpid(pid, &status, 0);
  std::vector<TokenId> received;
  MK_RETURN_IF_ERROR(OneCall(other, 16, received).status());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - killed).count();
}

absl::StatusOr<Rates> Served(const std::string& model_path, int tokens, int runs, double& killed_client_seconds) {
  tests::ServerProcess server(
      {"--device", "cuda", "--model", model_path, "--max-context", absl::StrCat(kContext), "--max-sequences", "1"});
  if (server.address().empty()) return absl::InternalError(absl::StrCat("no server:\n", server.log()));
  auto client = client::Client::Connect(server.address());
  if (!client.ok()) return absl::InternalError(client::Describe(client.error()));
  Rates rates;
  for (int run = -1; run < runs; ++run) {
    MK_ASSIGN_OR_RETURN(const double rate, OneCall(*client.value(), tokens, rates.tokens));
    if (run >= 0) rates.tok_per_s.push_back(rate);
  }
  MK_ASSIGN_OR_RETURN(killed_client_seconds, KillClient(server.address(), *client.value()));
  client.value().reset();
  if (const int status = server.Stop(); status != 0) {
    return absl::InternalError(absl::StrCat("the server ended with status ", status, ":\n", server.log()));
  }
  return rates;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

absl::StatusOr<nlohmann::ordered_json> Measure(const Arguments& args) {
  MK_ASSIGN_OR_RETURN(const int tokens, args.Int("tokens", 2, kContext - 64));
  MK_ASSIGN_OR_RETURN(const int runs, args.Int("runs", 1, 1000));
  MK_ASSIGN_OR_RETURN(const std::int64_t seed, args.Int("seed", 0, INT64_MAX));
  test::CheckpointOptions checkpoint;
  MK_ASSIGN_OR_RETURN(checkpoint.config_text, ConfigText(args.Text("config")));
  checkpoint.seed = static_cast<std::uint64_t>(seed);
  checkpoint.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const test::TempDirectory directory;
  MK_RETURN_IF_ERROR(test::WriteCheckpoint(checkpoint, directory.path()).status());
  MK_ASSIGN_OR_RETURN(const Rates in_process, InProcess(directory.path(), tokens, runs));
  double killed_client_seconds = 0.0;
  MK_ASSIGN_OR_RETURN(const Rates served, Served(directory.path(), tokens, runs, killed_client_seconds));
  const double alone = Median(in_process.tok_per_s), over_grpc = Median(served.tok_per_s);
  return nlohmann::ordered_json{{"config", args.Text("config")},
                                {"tokens", tokens},
                                {"runs", runs},
                                {"in_process_tok_per_s", alone},
                                {"grpc_tok_per_s", over_grpc},
                                {"over_inprocess", over_grpc / alone},
                                {"equal_tokens", in_process.tokens == served.tokens},
                                {"killed_client_seconds", killed_client_seconds}};
}

}  // namespace

int RunGrpc(std::span<const std::string> args) {
  int exit_status = 0;
  const auto parsed = ParseOrHelp(kName, kSummary, args, kOptions, &exit_status);
  if (!parsed) return exit_status;
  if (!parsed->Text("client").empty()) return StreamForEver(parsed->Text("client"));
  const auto result = Measure(*parsed);
  if (!result.ok()) {
    std::fprintf(stderr, "megakernel-bench %s: %s\n", kName, std::string(result.status().message()).c_str());
    return 1;
  }
  if (parsed->Flag("json")) {
    std::printf("%s\n", result->dump().c_str());
  } else {
    std::printf(
        "in-process %.1f tok/s, over gRPC %.1f tok/s: %.4f of it; equal tokens: %s; a killed client's lane is "
        "free after %.3f s\n",
        (*result)["in_process_tok_per_s"].get<double>(), (*result)["grpc_tok_per_s"].get<double>(),
        (*result)["over_inprocess"].get<double>(), (*result)["equal_tokens"].get<bool>() ? "yes" : "no",
        (*result)["killed_client_seconds"].get<double>());
  }
  return (*result)["equal_tokens"].get<bool>() && (*result)["killed_client_seconds"].get<double>() < 2.0 ? 0 : 1;
}

}  // namespace megakernel::bench
