// What the server costs: the whole path from the fake executor's events to a client on the same machine.
//
// For steps of 1 ms and of 0 ms, with 1 and 64 streams: how long each token takes from the engine's drain of its event
// to gRPC's acceptance of the message that carries it, and tokens per second. Server and client share this process and
// its processors.
#include <grpcpp/grpcpp.h>
#include <sys/resource.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "engine/base/clock.h"
#include "engine/core/engine.h"
#include "engine/executor/fake_executor.h"
#include "megakernel/v1/inference_service.grpc.pb.h"
#include "nlohmann/json.hpp"
#include "server/byte_model.h"
#include "server/server.h"
#include "tests/bench/arguments.h"
#include "tests/bench/subcommand.h"

namespace megakernel::bench {
namespace {

using Json = nlohmann::ordered_json;

// The bars of a step of 1 ms.
constexpr double kMaxP50Ms = 0.2;
constexpr double kMaxP99Ms = 1.0;
constexpr int kWarmTokens = 200;
constexpr int kStreams[] = {1, 64};

constexpr Option kOptions[] = {
    {"tokens-1ms", "N", "2000", "tokens of each stream at steps of 1 ms"},
    {"tokens-0ms", "N", "20000", "tokens of each stream at steps of 0 ms"},
    {"connections", "N", "4", "connections that the streams share"},
};

// One Generate call on gRPC's callback API: counts tokens, keeps nothing. Deletes itself.
class StreamReader final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  StreamReader(v1::InferenceService::Stub& stub, int tokens, std::atomic<std::int64_t>& received,
               std::atomic<int>& failures, absl::BlockingCounter& done)
      : received_(received), failures_(failures), done_(done) {
    request_.mutable_tokens()->add_ids(kByteModelFirstByte + 'a');
    request_.mutable_sampling()->set_temperature(0);
    request_.mutable_stopping()->set_max_tokens(tokens);
    stub.async()->Generate(&context_, &request_, this);
    StartRead(&response_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    received_.fetch_add(response_.delta().token_ids_size(), std::memory_order_relaxed);
    StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    if (!status.ok()) {
      std::fprintf(stderr, "stream failed: %s\n", status.error_message().c_str());
      failures_.fetch_add(1);
    }
    absl::BlockingCounter& done = done_;
    delete this;
    done.DecrementCount();
  }

 private:
  grpc::ClientContext context_;
  v1::GenerateRequest request_;
  v1::GenerateResponse response_;
  std::atomic<std::int64_t>& received_;
  std::atomic<int>& failures_;
  absl::BlockingCounter& done_;
};

struct Setup {
  absl::Duration step;
  int streams = 1;
  int tokens = 0;
  int connections = 1;
};

class ServingPath {
 public:
  // Null when it cannot start; says why on stderr.
  static std::unique_ptr<ServingPath> Start(const Setup& setup) {
    auto path = std::make_unique<ServingPath>();
    FakeOptions fake;
    fake.max_lanes = setup.streams;
    fake.vocab = kByteModelVocab;
    fake.first_token = kByteModelFirstWord;
    fake.page_tokens = 64;
    fake.max_context = setup.tokens + 64;
    fake.num_pages = setup.streams * (fake.max_context / fake.page_tokens + 1);
    fake.step_time = setup.step;
    path->model_ = NewByteModel(fake.max_context);
    EngineOptions options;
    options.stream_buffer = 1 << 20;  // a client that is late gets larger messages; here nobody is cut off
    auto engine = Engine::Create(options, path->model_.get(), std::make_unique<FakeExecutor>(fake), &path->clock_);
    if (!engine.ok()) return Failed(engine.status());
    path->engine_ = *std::move(engine);
    auto server = Server::Start(ServerSettings(), *path->engine_, path->clock_);
    if (!server.ok()) return Failed(server.status());
    path->server_ = *std::move(server);
    for (int i = 0; i < setup.connections; ++i) {
      grpc::ChannelArguments arguments;
      arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
      path->stubs_.push_back(v1::InferenceService::NewStub(grpc::CreateCustomChannel(
          absl::StrCat("127.0.0.1:", path->server_->port()), grpc::InsecureChannelCredentials(), arguments)));
    }
    return path;
  }

  ~ServingPath() {
    if (engine_ != nullptr) engine_->Shutdown(absl::ZeroDuration());
  }

  // Tokens received by all streams; -1 when one failed.
  std::int64_t Run(int streams, int tokens) {
    std::atomic<std::int64_t> received{0};
    std::atomic<int> failures{0};
    absl::BlockingCounter done(streams);
    for (int i = 0; i < streams; ++i) {
      new StreamReader(*stubs_[static_cast<std::size_t>(i) % stubs_.size()], tokens, received, failures, done);
    }
    done.Wait();
    return failures == 0 ? received.load() : -1;
  }

  WriteLatency& latency() { return server_->write_latency(); }

 private:
  static std::unique_ptr<ServingPath> Failed(const absl::Status& status) {
    std::fprintf(stderr, "megakernel-bench serve: %s\n", std::string(status.message()).c_str());
    return nullptr;
  }

  SteadyClock clock_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Server> server_;
  std::vector<std::unique_ptr<v1::InferenceService::Stub>> stubs_;
};

// Processor time of this process, all threads.
double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// One row of the report; empty when the run failed.
Json Measure(const Setup& setup) {
  const std::unique_ptr<ServingPath> path = ServingPath::Start(setup);
  if (path == nullptr || path->Run(setup.streams, std::min(kWarmTokens, setup.tokens)) < 0) return {};
  path->latency().Reset();
  const double cpu_start = CpuSeconds();
  const absl::Time start = absl::Now();
  const std::int64_t received = path->Run(setup.streams, setup.tokens);
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  const double cpu_seconds = CpuSeconds() - cpu_start;
  if (received != std::int64_t{setup.streams} * setup.tokens) return {};
  const auto ms = [&](double q) { return absl::ToDoubleMilliseconds(path->latency().Quantile(q)); };
  return {{"step_ms", absl::ToDoubleMilliseconds(setup.step)},
          {"streams", setup.streams},
          {"connections", setup.connections},
          {"tokens_per_stream", setup.tokens},
          {"tokens_measured", path->latency().count()},
          {"drained_to_accepted_p50_ms", ms(0.5)},
          {"drained_to_accepted_p99_ms", ms(0.99)},
          {"drained_to_accepted_max_ms", ms(1)},
          {"cpu_us_per_token", cpu_seconds * 1e6 / static_cast<double>(received)},  // server, client and fake together
          {"cpus_used", cpu_seconds / seconds},
          {"tokens_per_s_stream", static_cast<double>(received) / seconds / setup.streams},
          {"tokens_per_s_total", static_cast<double>(received) / seconds}};
}

}  // namespace

int RunServe(std::span<const std::string> args) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);  // as the server does
  int exit_status = 0;
  const auto arguments = ParseOrHelp("serve", "what the server adds to a token", args, kOptions, &exit_status);
  if (!arguments) return exit_status;
  const auto paced = arguments->Int("tokens-1ms", 1, 1'000'000);
  const auto unpaced = arguments->Int("tokens-0ms", 1, 1'000'000);
  const auto connections = arguments->Int("connections", 1, 64);
  for (const auto* value : {&paced, &unpaced, &connections}) {
    if (value->ok()) continue;
    std::fprintf(stderr, "megakernel-bench serve: %s\n", std::string(value->status().message()).c_str());
    return 2;
  }
  Json rows = Json::array();
  bool within = true;
  for (const bool pace : {true, false}) {
    for (const int streams : kStreams) {
      const Setup setup = {.step = pace ? absl::Milliseconds(1) : absl::ZeroDuration(),
                           .streams = streams,
                           .tokens = static_cast<int>(pace ? *paced : *unpaced),
                           .connections = static_cast<int>(std::min<std::int64_t>(*connections, streams))};
      const Json row = Measure(setup);
      if (row.empty()) return 1;
      if (pace) {
        within =
            within && row["drained_to_accepted_p50_ms"] <= kMaxP50Ms && row["drained_to_accepted_p99_ms"] <= kMaxP99Ms;
      }
      rows.push_back(row);
    }
  }
  const Json report = {
      {"bench", "serve"}, {"bar_p50_ms", kMaxP50Ms}, {"bar_p99_ms", kMaxP99Ms}, {"within", within}, {"runs", rows}};
  std::printf("%s\n", report.dump(2).c_str());
  return within ? 0 : 1;
}

}  // namespace megakernel::bench
