// megakernel-bench serve-client: one thread, one completion queue, messages that are parsed and counted.
#include "tests/bench/serve_client.h"

#include <grpcpp/grpcpp.h>

#include <cinttypes>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "megakernel/v1/inference_service.grpc.pb.h"
#include "server/byte_model.h"
#include "tests/bench/arguments.h"
#include "tests/bench/cpu_time.h"
#include "tests/bench/subcommand.h"

namespace megakernel::bench {
namespace {

constexpr Option kOptions[] = {
    {"port", "N", nullptr, "of the server, on 127.0.0.1"},
    {"connections", "N", "1", "connections that the streams share"},
};

// One Generate call; the queue's events go round through Next.
class Stream {
 public:
  Stream(v1::InferenceService::Stub& stub, grpc::CompletionQueue& queue, int tokens) {
    v1::GenerateRequest request;
    request.mutable_tokens()->add_ids(kByteModelFirstByte + 'a');
    request.mutable_sampling()->set_temperature(0);
    request.mutable_stopping()->set_max_tokens(tokens);
    reader_ = stub.AsyncGenerate(&context_, request, &queue, this);
  }

  // The operation in flight has ended; starts the next one. False after the last.
  bool Next(bool ok, ClientRun& run) {
    if (finishing_) return false;
    if (!ok) {
      finishing_ = true;
      reader_->Finish(&status_, this);
      return true;
    }
    if (reading_) {
      run.received += response_.delta().token_ids_size();
      ++run.messages;
    }
    reading_ = true;
    reader_->Read(&response_, this);
    return true;
  }

  const grpc::Status& status() const { return status_; }

 private:
  grpc::ClientContext context_;
  grpc::Status status_;
  v1::GenerateResponse response_;
  std::unique_ptr<grpc::ClientAsyncReader<v1::GenerateResponse>> reader_;
  bool reading_ = false;
  bool finishing_ = false;
};

using Stubs = std::vector<std::unique_ptr<v1::InferenceService::Stub>>;

Stubs Connect(int port, int connections) {
  Stubs stubs;
  for (int i = 0; i < connections; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    stubs.push_back(v1::InferenceService::NewStub(
        grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials(), arguments)));
  }
  return stubs;
}

// False when a stream failed.
bool RunStreams(const Stubs& stubs, int num_streams, int tokens, ClientRun& run) {
  grpc::CompletionQueue queue;
  const double cpu_start = CpuSeconds();
  const absl::Time start = absl::Now();
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < num_streams; ++i) {
    streams.push_back(std::make_unique<Stream>(*stubs[static_cast<std::size_t>(i) % stubs.size()], queue, tokens));
  }
  void* tag = nullptr;
  bool ok = false;
  for (int open = num_streams; open > 0 && queue.Next(&tag, &ok);) {
    if (!static_cast<Stream*>(tag)->Next(ok, run)) --open;
  }
  run.seconds = absl::ToDoubleSeconds(absl::Now() - start);
  run.cpu_seconds = CpuSeconds() - cpu_start;
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  for (const auto& stream : streams) {
    if (stream->status().ok()) continue;
    std::fprintf(stderr, "stream failed: %s\n", stream->status().error_message().c_str());
    return false;
  }
  return true;
}

}  // namespace

int RunServeClient(std::span<const std::string> args) {
  int exit_status = 0;
  const auto arguments = ParseOrHelp("serve-client", "the client that serve starts; orders are lines STREAMS TOKENS",
                                     args, kOptions, &exit_status);
  if (!arguments) return exit_status;
  const auto port = arguments->Int("port", 1, 65535);
  const auto connections = arguments->Int("connections", 1, 64);
  for (const auto* value : {&port, &connections}) {
    if (value->ok()) continue;
    std::fprintf(stderr, "megakernel-bench serve-client: %s\n", std::string(value->status().message()).c_str());
    return 2;
  }
  const Stubs stubs = Connect(static_cast<int>(*port), static_cast<int>(*connections));
  int streams = 0, tokens = 0;
  while (std::scanf("%d %d", &streams, &tokens) == 2) {
    ClientRun run;
    if (!RunStreams(stubs, streams, tokens, run)) return 1;
    std::printf("%" PRId64 " %" PRId64 " %.9f %.9f\n", run.received, run.messages, run.seconds, run.cpu_seconds);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace megakernel::bench
